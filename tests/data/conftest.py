import socket

import pytest


@pytest.fixture(autouse=True)
def own_folders_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    resolve = socket.getaddrinfo

    def resolve_here_only(host, *arguments, **options):
        if host != "127.0.0.1":
            raise socket.gaierror(-2, "Name or service not known")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_here_only)


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache" / "draw_jax"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"
