import fcntl
import functools
import gzip
import http.server
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from draw_jax.data import prepared, splits
from draw_jax.data.builders import draw_binarized_mnist, draw_mnist
from tests.data.helpers import (
    REAL_DATA,
    WHERE,
    config,
    file_names,
    idx,
    make_binarized_mnist,
    make_mnist,
    read_raw,
    register,
    rows,
)


@pytest.fixture(params=WHERE)
def raw(request, tmp_path, monkeypatch):
    """A folder of original files: small made-up ones, and the real ones where they are at hand."""
    if request.param == "real":
        return Path(REAL_DATA) / "raw"
    make_mnist(tmp_path / "raw")
    make_binarized_mnist(tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")
    return tmp_path / "raw"


def test_mnist_is_every_pixel_of_the_original_files(raw, tmp_path):
    load = functools.partial(splits.load, config("mnist", tmp_path / "data", raw))
    train, validation, test = map(load, splits.SPLITS)
    expected = read_raw(raw, "mnist")
    size = len(expected["train"])
    assert size == 6 * len(validation.images) and len(train.images) + size // 6 == size
    for split in (train, validation, test):
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (28, 28, 1)
        assert split.labels.dtype == np.int32 and split.labels.shape == (len(split.images),)
        assert not split.binary
    assert rows(train, validation) == expected["train"]
    assert rows(test) == expected["test"]
    if str(raw).startswith(str(REAL_DATA)):
        theirs = functools.partial(splits.load, config("mnist", Path(REAL_DATA) / "tfds"))
        for split, ours, count in (("validation", validation, 10_000), ("test", test, 10_000)):
            assert len(ours.images) == count
            np.testing.assert_array_equal(theirs(split).images, ours.images)
            np.testing.assert_array_equal(theirs(split).labels, ours.labels)


def test_binarized_mnist_is_every_pixel_of_the_original_files(raw, tmp_path):
    load = functools.partial(
        splits.load, config("binarized_mnist", tmp_path / "data", raw, binarization="fixed")
    )
    expected = read_raw(raw, "binarized_mnist")
    loaded = {name: load(name) for name in splits.SPLITS}
    for name, split in loaded.items():
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (28, 28, 1)
        assert split.binary and split.labels is None
        assert rows(split) == expected[name]
    if str(raw).startswith(str(REAL_DATA)):
        assert [len(split) for split in loaded.values()] == [50_000, 10_000, 10_000]
        theirs = config("binarized_mnist", Path(REAL_DATA) / "tfds", binarization="fixed")
        for name, split in loaded.items():
            np.testing.assert_array_equal(splits.load(theirs, name).images, split.images)


@pytest.mark.parametrize("packed", [False, True])
def test_binarized_mnist_from_plain_and_from_gzipped_files(tmp_path, monkeypatch, packed):
    make_binarized_mnist(tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")
    expected = read_raw(tmp_path / "raw", "binarized_mnist")
    if packed:
        for file in list((tmp_path / "raw").iterdir()):
            Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    cfg = config("binarized_mnist", tmp_path / "data", tmp_path / "raw", "fixed")
    for name in splits.SPLITS:
        assert rows(splits.load(cfg, name)) == expected[name]


@pytest.mark.parametrize("name", ["mnist", "binarized_mnist"])
@pytest.mark.parametrize("manual", [False, True])
def test_no_network_and_no_files_is_one_short_error_at_once(tmp_path, name, manual):
    manual_dir = tmp_path / "manual" if manual else ""
    if manual:
        manual_dir.mkdir()
    start = time.monotonic()
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(config(name, tmp_path / "data", manual_dir), "train")
    assert time.monotonic() - start < 5
    message = str(caught.value)
    module = draw_mnist if name == "mnist" else draw_binarized_mnist
    assert len(message.splitlines()) <= 8 and caught.value.__context__ is None
    for part in (
        repr(name),
        "Name or service not known",
        f"{tmp_path / 'data'} ",
        f"draw_{name} and {name}",
        str(manual_dir),
        "curl",
        module.URL,
        "--config.data.manual_dir=",
        "--config=configs/digits.py",
        *file_names(module),
    ):
        assert part in message
    assert not (tmp_path / "data").exists()


def test_without_mnist_clutter_can_be_made_of_other_digits(tmp_path):
    cfg = config("cluttered_mnist", tmp_path / "data", binarization="none")
    cfg.update(source="mnist", size=28, clutter=0, crop_size=8)
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(cfg, "train")
    assert str(caught.value).splitlines()[-1].endswith("--config.data.source=digits")
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(cfg, "test", flags="--")  # of a command that takes no such field
    assert "source" not in str(caught.value)
    cfg.source = "digits"
    assert splits.load(cfg, "test").image_shape == (28, 28, 1)


def test_a_manual_dir_that_is_not_there_is_named(tmp_path):
    with pytest.raises(splits.DataNotFound, match="manual_dir .*/nowhere is not a folder"):
        splits.load(config("mnist", tmp_path / "data", tmp_path / "nowhere"), "train")


def damage_last(folder, change):
    file = folder / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b"", lambda b: b[:30] + bytes([b[30] ^ 1]) + b[31:]]
)
def test_a_damaged_file_in_manual_dir_is_refused_and_then_replaced(tmp_path, monkeypatch, change):
    make_mnist(tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")
    damage_last(tmp_path / "raw", change)
    cfg = config("mnist", tmp_path / "data", tmp_path / "raw")
    with pytest.raises(splits.DataNotFound, match="t10k-labels-idx1-ubyte.gz, has wrong checksum"):
        splits.load(cfg, "test")
    assert not [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    make_mnist(tmp_path / "raw")
    assert rows(splits.load(cfg, "test")) == read_raw(tmp_path / "raw", "mnist")["test"]


def test_files_with_the_right_checksum_and_wrong_content_are_refused(tmp_path, monkeypatch):
    make_mnist(tmp_path / "raw")
    name = draw_mnist.FILES["test"][1]
    (tmp_path / "raw" / name).write_bytes(idx(np.zeros(9, np.uint8)))  # 10 images
    register(monkeypatch, tmp_path / "raw")
    with pytest.raises(splits.DataNotFound, match=r"images \[N, 28, 28\] and labels \[N\], got"):
        splits.load(config("mnist", tmp_path / "data", tmp_path / "raw"), "test")
    assert prepared.find(tmp_path / "data", "draw_mnist") is None


class Server:
    """A web server on this machine for the files of a folder, that can fail in several ways."""

    def __init__(self, folder):
        server = self
        self.fault = None

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                if server.fault is None or not self.path.endswith("t10k-labels-idx1-ubyte.gz"):
                    super().do_GET()
                    return
                if isinstance(server.fault, int):
                    self.send_error(server.fault)
                    return
                content = Path(self.translate_path(self.path)).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(server.fault(content))

            def log_message(self, *arguments):
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(tmp_path, monkeypatch):
    make_mnist(tmp_path / "site")
    server = Server(tmp_path / "site")
    register(monkeypatch, tmp_path / "site", server.url)
    yield server
    server.close()


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (404, "HTTP code: 404"),
        (503, "HTTP Error 503"),
        (lambda content: content[:20], "IncompleteRead|wrong checksum"),
        (lambda content: content[::-1], "wrong checksum"),
    ],
)
def test_a_failed_download_leaves_nothing_and_the_next_one_succeeds(server, tmp_path, fault, cause):
    cfg = config("mnist", tmp_path / "data")
    server.fault = fault
    start = time.monotonic()
    with pytest.raises(splits.DataNotFound, match=cause) as caught:
        splits.load(cfg, "test")
    assert time.monotonic() - start < 5
    assert len(str(caught.value).splitlines()) <= 8
    assert not [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    server.fault = None
    assert rows(splits.load(cfg, "test")) == read_raw(tmp_path / "site", "mnist")["test"]
    assert [folder.name for folder in (tmp_path / "data").iterdir()] == ["draw_mnist"]


def test_what_killed_programs_have_downloaded_is_deleted_and_nothing_else(server, tmp_path):
    data = tmp_path / "data"
    killed, used, odd = (data / f"draw_jax_download_{name}" for name in ("a", "b", "c"))
    for folder in (killed, used, odd):
        folder.mkdir(parents=True)
        (folder / "half").write_bytes(b"1")
    (killed / "in_use.lock").touch()
    with (used / "in_use.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        splits.load(config("mnist", data), "test")
    assert {folder.name for folder in data.iterdir()} == {"draw_mnist", used.name, odd.name}
    assert (used / "half").exists()


def test_a_refused_connection_is_the_same_error(server, tmp_path):
    server.close()
    with pytest.raises(splits.DataNotFound, match="refused"):
        splits.load(config("mnist", tmp_path / "data"), "test")


def test_only_what_manual_dir_lacks_is_downloaded(server, tmp_path):
    (tmp_path / "manual").mkdir()
    for name in draw_mnist.FILES["train"]:
        (tmp_path / "site" / name).rename(tmp_path / "manual" / name)
    split = splits.load(config("mnist", tmp_path / "data", tmp_path / "manual"), "train")
    assert len(split.images) == 50


def test_a_half_deleted_folder_is_named(tmp_path, monkeypatch):
    make_mnist(tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")
    (tmp_path / "data" / "draw_mnist" / "1.0.0").mkdir(parents=True)
    with pytest.raises(splits.DataNotFound, match="draw_mnist is incomplete, delete it"):
        splits.load(config("mnist", tmp_path / "data", tmp_path / "raw"), "test")


def test_a_data_dir_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    make_mnist(tmp_path / "raw")
    register(monkeypatch, tmp_path / "raw")

    def refuse(*arguments, dir, **options):  # modes would not do: root may write everywhere
        raise OSError(30, "Read-only file system", str(dir))

    (tmp_path / "data").mkdir()
    below_a_file = Path(__file__, "below")
    for data_dir in (below_a_file, tmp_path / "data"):
        if data_dir != below_a_file:
            monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
        with pytest.raises(
            splits.DataNotFound, match="cannot prepare 'mnist' in data_dir"
        ) as caught:
            splits.load(config("mnist", data_dir, tmp_path / "raw"), "test")
        message = str(caught.value)
        assert str(data_dir) in message and "--config.data.data_dir=DIR" in message
        assert "\n" not in message
