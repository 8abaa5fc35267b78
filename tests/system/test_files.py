import os
from pathlib import Path

import pytest

from draw_jax.system import files


def test_a_file_is_written_and_its_missing_folders_made(tmp_path):
    path = tmp_path / "one" / "two" / "new.bin"
    assert files.write_whole(str(path), lambda file: file.write(b"new")) == path
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


def test_bytes_and_texts_are_written_whole(tmp_path):
    path = tmp_path / "new" / "text.md"
    assert files.write_text(str(path), "\N{GREEK SMALL LETTER DELTA}\r\n") == path
    assert path.read_bytes() == b"\xce\xb4\r\n" and list(path.parent.iterdir()) == [path]
    assert files.write_bytes(path, b"\xff\n") == path
    assert path.read_bytes() == b"\xff\n" and list(path.parent.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "kept.bin"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    files.write_whole(path, write)
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "kept.bin"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise error("stopped")

    with pytest.raises(error, match="stopped"):
        files.write_whole(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"cannot write .*file.a\.bin.* choose a folder") as error:
        files.write_whole(tmp_path / "file" / "a.bin", lambda file: file.write(b"new"))
    assert isinstance(error.value.__cause__, OSError)


def test_a_full_disk_is_named(tmp_path):
    def fail(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(
        OSError, match=r"cannot write .*a\.bin: No space left on device; make room there"
    ):
        files.write_whole(tmp_path / "a.bin", fail)
    assert not list(tmp_path.iterdir())


def test_caches_lie_where_the_user_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert files.cache_folder() == tmp_path / "caches" / "draw_jax"
    assert not list(tmp_path.iterdir())  # asked for, not made


@pytest.mark.parametrize("value", [None, "", "relative/caches"])
def test_caches_lie_in_the_home_where_nothing_else_is_said(tmp_path, monkeypatch, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert files.cache_folder() == tmp_path / ".cache" / "draw_jax"


def test_a_user_without_a_home_is_told_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it is without a home
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        files.cache_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == Path(tmp_path, "draw_jax")


def test_a_whole_file_has_reached_the_disk(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(files.os, "fsync", lambda number: order.append("synced"))
    replace = os.replace
    monkeypatch.setattr(
        files.os, "replace", lambda *names: order.append("there") or replace(*names)
    )
    files.write_whole(tmp_path / "new.bin", lambda file: file.write(b"new"))
    assert order == ["synced", "there"]
