"""Downloads from a server of our own: whole, cut off, continued, refused."""

import contextlib
import http.server
import threading
from typing import ClassVar

import pytest

from draw_jax.data import download

CONTENT = bytes(range(256)) * 400


class Server(http.server.BaseHTTPRequestHandler):
    """Sends CONTENT from where it is asked to, or what `told` says."""

    told: ClassVar[dict] = {}

    def do_GET(self):
        asked = self.headers.get("Range")
        self.told.setdefault("asked", []).append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if self.told.get("no_ranges"):
            start, asked = 0, None
        code = self.told.get("code") or (206 if asked else 200)
        if code == 206 and start >= len(CONTENT):
            code = 416
        self.send_response(code)
        part = CONTENT[start:] if code < 400 else b""
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(part[: self.told.pop("cut", len(part))])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.told = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}/train.tar.gz", Server.told
        made.shutdown()


def test_a_file_is_downloaded_whole_and_once(server, tmp_path):
    url, told = server
    path = tmp_path / "new/train.tar.gz"
    for _ in range(2):
        download.download(url, path)
    assert path.read_bytes() == CONTENT and told["asked"] == [None]
    assert [p.name for p in path.parent.iterdir()] == ["train.tar.gz"]


@pytest.mark.parametrize("no_ranges", [False, True])
def test_what_was_cut_off_continues(server, tmp_path, no_ranges):
    url, told = server
    path = tmp_path / "train.tar.gz"
    told |= {"cut": 30_000, "no_ranges": no_ranges}
    with pytest.raises(
        OSError, match=r"cannot download http.*train.tar.gz \(cut off at 30,000 of 10"
    ):
        download.download(url, path)
    assert not path.exists() and (tmp_path / "train.tar.gz.part").stat().st_size == 30_000
    download.download(url, path)
    assert path.read_bytes() == CONTENT
    assert told["asked"] == [None, "bytes=30000-"]


def test_what_was_whole_but_not_yet_in_place_is_taken(server, tmp_path):
    (tmp_path / "train.tar.gz.part").write_bytes(CONTENT)
    download.download(server[0], tmp_path / "train.tar.gz")
    assert (tmp_path / "train.tar.gz").read_bytes() == CONTENT


def test_a_server_that_refuses_or_is_not_there_is_told(server, tmp_path):
    url, told = server
    told["code"] = 404
    with pytest.raises(OSError, match=r"cannot download .*train.tar.gz \(HTTP Error 404"):
        download.download(url, tmp_path / "train.tar.gz")
    with pytest.raises(OSError, match=r"cannot download .*nowhere.* \(.*Name or service not known"):
        download.download("http://nowhere.invalid/train.tar.gz", tmp_path / "train.tar.gz")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        download.download(server[0], tmp_path / "file/train.tar.gz")
