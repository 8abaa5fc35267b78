import functools
import gzip
import hashlib
import http.server
import os
import socket
import struct
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from tensorflow_datasets.core.download import checksums

from draw_jax.data import prepared, splits
from draw_jax.data.builders import draw_binarized_mnist, draw_mnist

REAL_DATA = os.environ.get("DRAW_JAX_DATA")
MNIST = ("train", "test")
BINARIZED = {"train": "train", "validation": "valid", "test": "test"}


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


def config(name, data_dir="", manual_dir="", binarization="none"):
    return ConfigDict(
        {
            "name": name,
            "data_dir": str(data_dir),
            "manual_dir": str(manual_dir),
            "binarization": binarization,
        }
    )


def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(header + values.tobytes(), mtime=0)  # the same bytes at any time


def make_mnist(folder, sizes=(60, 10)):
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    for split, size in zip(MNIST, sizes, strict=True):
        images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, size, dtype=np.uint8)
        for name, values in zip(draw_mnist.FILES[split], (images, labels), strict=True):
            (folder / name).write_bytes(idx(values))


def make_binarized_mnist(folder, sizes=(50, 10, 12)):
    rng = np.random.default_rng(2)
    folder.mkdir(exist_ok=True)
    for split, size in zip(BINARIZED, sizes, strict=True):
        bits = rng.integers(0, 2, (size, 784))
        text = "".join(" ".join(map(str, row)) + "\n" for row in bits)
        (folder / draw_binarized_mnist.FILES[split]).write_text(text)


def register(monkeypatch, folder, base=None):
    """Make the files of a folder the ones that both builders expect, at the URL base."""
    for module, builder in (
        (draw_mnist, draw_mnist.DrawMnist),
        (draw_binarized_mnist, draw_binarized_mnist.DrawBinarizedMnist),
    ):
        if base is not None:
            monkeypatch.setattr(module, "URL", base)
        infos = {}
        for name in _file_names(module):
            content = (folder / name).read_bytes() if (folder / name).exists() else b""
            infos[module.URL + name] = checksums.UrlInfo(
                size=tfds.core.utils.Size(len(content)),
                checksum=hashlib.sha256(content).hexdigest(),
                filename=name,
            )
        monkeypatch.setattr(builder, "url_infos", infos)


def _file_names(module):
    names = module.FILES.values()
    return [n for pair in names for n in pair] if module is draw_mnist else list(names)


def read_raw(folder, name):
    """Return {split: sorted [(pixels, label)]} straight from the original files."""
    splits = {}
    for split in MNIST if name == "mnist" else BINARIZED:
        if name == "mnist":
            images_file, labels_file = (folder / n for n in draw_mnist.FILES[split])
            labels = gzip.decompress(labels_file.read_bytes())[8:]
            pixels = gzip.decompress(images_file.read_bytes())[16:]
        else:
            file = folder / draw_binarized_mnist.FILES[split]
            text = (
                file.read_bytes()
                if file.exists()
                else gzip.decompress(Path(f"{file}.gz").read_bytes())
            )
            pixels = text.replace(b" ", b"").replace(b"\n", b"").translate(_BITS_TO_PIXELS)
            labels = bytes(len(pixels) // 784)
        images = [pixels[i : i + 784] for i in range(0, len(pixels), 784)]
        splits[split] = sorted(zip(images, labels, strict=True))
    return splits


_BITS_TO_PIXELS = bytes.maketrans(b"01", b"\x00\xff")


def rows(*splits):
    """Return sorted [(pixels, label)] of loaded splits."""
    found = []
    for split in splits:
        labels = [0] * len(split.images) if split.labels is None else split.labels.tolist()
        found += zip((image.tobytes() for image in split.images), labels, strict=True)
    return sorted(found)


@pytest.fixture(params=["made up", *(["real"] if REAL_DATA else [])])
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
        assert [len(s.images) for s in splits.values()] == [50_000, 10_000, 10_000]
        theirs = config("binarized_mnist", Path(REAL_DATA) / "tfds", binarization="fixed")
        for name, split in splits.items():
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


def store(data_dir, name, splits):
    """Prepare an array_record folder as another program would, with no builder of ours."""

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            shape = next(iter(splits.values())).shape[1:]
            feature = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="zlib")
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict({"image": feature}),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {s: self._generate_examples(images) for s, images in splits.items()}

        def _generate_examples(self, images):
            yield from ((i, {"image": image}) for i, image in enumerate(images))

    Toy.name = name
    Toy(data_dir=data_dir).download_and_prepare(file_format="array_record")


def colours(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [2, 9, 50])
def test_a_folder_without_validation_gives_the_last_tenth_of_train(tmp_path, size):
    images = colours(size)
    store(tmp_path, "toy", {"train": images, "test": colours(3, seed=1)})
    train, validation, test = (splits.load(config("toy", tmp_path), s) for s in splits.SPLITS)
    assert len(validation.images) == max(1, size // 10)
    np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), images)
    np.testing.assert_array_equal(test.images, colours(3, seed=1))
    assert train.labels is None and not train.binary


def test_a_folder_with_validation_keeps_it(tmp_path):
    splits = {"train": colours(4), "validation": colours(5, 1)}
    store(tmp_path, "toy", splits)
    for split, images in splits.items():
        np.testing.assert_array_equal(splits.load(config("toy", tmp_path), split).images, images)
    with pytest.raises(ValueError, match=r"no images for 'test' in .*'train': 4"):
        splits.load(config("toy", tmp_path), "test")


def test_zeros_and_ones_come_back_as_0_and_255(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (20, 28, 28, 1), dtype=np.uint8)
    splits = {"train": bits, "validation": bits[:7], "test": bits[7:]}
    store(tmp_path, "binarized_mnist", splits)  # a folder of tensorflow-datasets' own builder
    split = splits.load(config("binarized_mnist", tmp_path, binarization="fixed"), "test")
    assert split.binary
    np.testing.assert_array_equal(split.images, 255 * bits[7:])


def test_the_default_folder_is_that_of_tensorflow_datasets(tmp_path, monkeypatch):
    store(tmp_path / "default", "toy", {"test": colours(3)})
    assert len(splits.load(config("toy"), "test").images) == 3
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "default").rename(tmp_path / "tensorflow_datasets")
    assert len(splits.load(config("toy"), "test").images) == 3


@pytest.mark.parametrize("where", ["made up", *(["real"] if REAL_DATA else [])])
def test_colour_images_load(tmp_path, where):
    if where == "real":
        split = splits.load(config("cifar10", Path(REAL_DATA) / "tfds"), "validation")
        assert split.images.shape == (2000, 32, 32, 3) and split.labels.shape == (2000,)
        # The mean of the 50,000 training images is 0.473; 2,000 give it within 0.02.
        assert abs(split.images.mean() / 255 - 0.473) < 0.02
        assert set(split.labels) == set(range(10))
    else:
        store(tmp_path, "cifar10", {"train": colours(30)})
        split = splits.load(config("cifar10", tmp_path), "validation")
        np.testing.assert_array_equal(split.images, colours(30)[27:])


def test_digits_are_whole_disjoint_and_repeatable():
    loaded = [splits.load(config("digits"), s) for s in splits.SPLITS]
    assert [s.images.shape for s in loaded] == [(n, 28, 28, 1) for n in (1437, 180, 180)]
    for split in loaded:
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        assert (split.images.min(), split.images.max()) == (0, 255) and not split.binary
    # The 1,797 scans all differ, and still do when enlarged.
    assert len({image.tobytes() for s in loaded for image in s.images}) == 1797
    labels = np.concatenate([s.labels for s in loaded])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    again = splits.load(config("digits"), "validation")
    np.testing.assert_array_equal(again.images, splits[1].images)
    np.testing.assert_array_equal(again.labels, splits[1].labels)


def test_digits_look_like_the_scans():
    from sklearn.datasets import load_digits

    split = splits.load(config("digits"), "test")
    scans = load_digits()
    # Back to 8x8 by means over 3.5 pixels (7 half-pixels): nearest to a scan of that label. Means of
    # an interpolation are blurred, hence up to 17 of 255 away from the scan itself.
    small = split.images[..., 0].repeat(2, 1).repeat(2, 2).reshape(-1, 8, 7, 8, 7).mean((2, 4))
    for image, label in zip(small, split.labels, strict=True):
        error = np.abs(scans.images * 255 / 16 - image).mean((1, 2))
        assert error.min() < 20 and scans.target[error.argmin()] == label


def test_unknown_splits_and_binarizations_are_named():
    with pytest.raises(ValueError, match="train, validation, test, got 'valid'"):
        splits.load(config("digits"), "valid")
    with pytest.raises(ValueError, match="fixed, dynamic, none, got 'static'"):
        splits.load(config("digits", binarization="static"), "train")


def test_a_binarization_that_does_not_fit_the_set_says_what_to_use(tmp_path):
    with pytest.raises(ValueError, match="'digits' has grey .* dynamic or none, .*binarized_mnist"):
        splits.load(config("digits", binarization="fixed"), "test")
    store(tmp_path, "bits", {"test": np.full((2, 28, 28, 1), 255, np.uint8)})
    with pytest.raises(ValueError, match="'bits' is binary already.* fixed"):
        splits.load(config("bits", tmp_path, binarization="dynamic"), "test")


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
        *_file_names(module),
    ):
        assert part in message
    assert not (tmp_path / "data").exists()


def test_an_unknown_set_is_one_short_error(tmp_path):
    with pytest.raises(splits.DataNotFound) as caught:
        splits.load(config("cifar10", tmp_path), "train")
    for part in ("'cifar10'", str(tmp_path), "tfds build cifar10", "data_dir", "configs/digits.py"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_folder_in_another_format_is_mentioned(tmp_path, name):
    folder = tmp_path / name / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
    with pytest.raises(splits.DataNotFound, match=f"{name} .which is there in another format"):
        splits.load(config(name, tmp_path), "train")


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


def test_check_shape_names_both_shapes_and_the_field():
    split = splits.Split(np.zeros((3, 28, 20, 1), np.uint8), None, True)
    splits.check_shape(split, (28, 20, 1))
    splits.check_shape(split, [28, 20, 1])
    with pytest.raises(ValueError, match=r"model.image_shape \(32, 32, 3\), .*\(28, 20, 1\)"):
        splits.check_shape(split, (32, 32, 3))


@pytest.mark.parametrize("binarization", ["fixed", "none"])
def test_prepare_divides_by_255(binarization):
    images = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1)
    prepare = jax.jit(splits.prepare, static_argnums=1)
    for result in (splits.prepare(images, binarization), prepare(images, binarization)):
        assert result.shape == images.shape and result.dtype == jnp.float32
        np.testing.assert_allclose(result, images / 255, rtol=1e-6)
        assert result.min() == 0 and result.max() == 1


def test_dynamic_binarization_has_the_right_mean_and_repeats_by_key():
    images = np.tile(np.array([0, 51, 128, 204, 255], np.uint8), (4000, 1)).reshape(-1, 5, 1, 1)
    prepare = jax.jit(splits.prepare, static_argnums=1)
    bits = np.asarray(prepare(images, "dynamic", jax.random.key(0)))
    assert bits.shape == images.shape and bits.dtype == np.float32
    assert set(np.unique(bits)) == {0, 1}
    mean = bits.mean((0, 2, 3))
    assert mean[0] == 0 and mean[4] == 1
    # Four standard errors of the mean of 4,000 draws.
    np.testing.assert_allclose(mean, np.array([0, 51, 128, 204, 255]) / 255, atol=4 * 0.5 / 63)
    np.testing.assert_array_equal(bits, prepare(images, "dynamic", jax.random.key(0)))
    assert (bits != np.asarray(prepare(images, "dynamic", jax.random.key(1)))).any()


def test_prepare_refuses_what_it_cannot_use():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="key"):
        splits.prepare(images, "dynamic")
    with pytest.raises(ValueError, match="fixed, dynamic, none"):
        splits.prepare(images, "bernoulli")
    with pytest.raises(ValueError, match="uint8"):
        splits.prepare(images / 255, "none")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    size=st.integers(1, 60),
    batch_size=st.integers(1, 150),
    epochs=st.integers(1, 4),
)
def test_every_image_comes_once_an_epoch(seed, size, batch_size, epochs):
    steps = -(-epochs * size // batch_size)  # the last batch may straddle the end
    batches = [splits.batch_indices(seed, step, size, batch_size) for step in range(steps)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    stream = np.concatenate(batches)[: epochs * size].reshape(epochs, size)
    np.testing.assert_array_equal(np.sort(stream), np.tile(np.arange(size), (epochs, 1)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), step=st.integers(0, 10**7), batch_size=st.integers(1, 100))
def test_a_batch_depends_on_seed_and_step_only(seed, step, batch_size):
    first = splits.batch_indices(seed, step, 37, batch_size)
    for other in (0, step + 1, 10**6):
        splits.batch_indices(seed + 1, other, 37, batch_size)
    first_again = splits.batch_indices(seed, np.int32(step), 37, batch_size)
    np.testing.assert_array_equal(first, first_again)
    first[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(splits.batch_indices(seed, step, 37, batch_size), first_again)


def test_epochs_and_seeds_differ():
    epochs = [splits.batch_indices(seed, step, 500, 500) for seed in (0, 1) for step in (0, 1)]
    assert len({epoch.tobytes() for epoch in epochs}) == 4


@pytest.mark.parametrize("arguments", [(-1, 0, 5, 2), (0, -1, 5, 2), (0, 0, 0, 2), (0, 0, 5, 0)])
def test_batch_indices_refuses_numbers_out_of_range(arguments):
    with pytest.raises(ValueError, match="expected seed >= 0"):
        splits.batch_indices(*arguments)


def test_a_batch_is_cheap():
    splits.batch_indices(0, 0, 50_000, 100)
    start = time.perf_counter()
    for step in range(400):
        splits.batch_indices(0, step, 50_000, 100)
    assert (time.perf_counter() - start) / 400 < 2e-3  # about 0.01 ms; a permutation takes 1 ms
