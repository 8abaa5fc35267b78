import gzip
import hashlib
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from draw_jax.data import prepared
from draw_jax.data.builders import draw_binarized_mnist, draw_mnist
from draw_jax.data.builders.draw_binarized_mnist import DrawBinarizedMnist, parse_amat
from draw_jax.data.builders.draw_mnist import DrawMnist, parse_idx
from tests.data.helpers import replaced


def test_builders_have_names_of_their_own():
    assert (DrawMnist.name, DrawBinarizedMnist.name) == ("draw_mnist", "draw_binarized_mnist")
    assert tfds.builder_cls("draw_mnist") is DrawMnist
    assert tfds.builder_cls("draw_binarized_mnist") is DrawBinarizedMnist
    for name in ("mnist", "binarized_mnist"):
        assert tfds.builder_cls(name).__module__.startswith("tensorflow_datasets.")


def test_every_file_has_a_checksum_and_it_is_the_one_tensorflow_datasets_registers():
    folder = tfds.core.utils.tfds_path()
    theirs = {
        info.filename: info
        for file in ("url_checksums/mnist.txt", "datasets/binarized_mnist/checksums.tsv")
        for info in checksums.load_url_infos(folder / file).values()
    }
    names = [name for pair in draw_mnist.FILES.values() for name in pair]
    for builder, urls in (
        (DrawMnist, [draw_mnist.URL + name for name in names]),
        (DrawBinarizedMnist, [draw_binarized_mnist.URL + n for n in _amat_names()]),
    ):
        assert len(urls) == {DrawMnist: 4, DrawBinarizedMnist: 3}[builder]
        for url in urls:
            info = builder.url_infos[url]
            assert info.filename == url.rpartition("/")[2]
            assert info == theirs[info.filename]  # size and sha256


def _amat_names():
    return draw_binarized_mnist.FILES.values()


@pytest.mark.parametrize("shape", [(5,), (3, 28, 28), (0, 28, 28)])
def test_parse_idx_returns_what_was_written(shape):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    parsed = parse_idx(header + values.tobytes())
    assert parsed.shape == shape and parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",
        b"\x00\x00\x08\x00",
        b"\x00\x00\x08\x03\x00\x00\x00\x01",
        b"\x00\x00\x0d\x01\x00\x00\x00\x01\x07",  # float32
        b"\x00\x00\x08\x01\x00\x00\x00\x02\x07",  # one value short
        b"\x00\x00\x08\x01\x00\x00\x00\x01\x07\x07",  # one too many
        b"<html>not found</html>",
    ],
)
def test_parse_idx_refuses_other_files(data):
    with pytest.raises(ValueError, match="expected"):
        parse_idx(data)


def amat(bits):
    return "".join(" ".join(map(str, row)) + "\n" for row in bits.reshape(len(bits), -1)).encode()


def test_parse_amat_returns_what_was_written():
    bits = np.random.default_rng(0).integers(0, 2, (4, 28, 28))
    parsed = parse_amat(amat(bits))
    assert parsed.shape == (4, 28, 28, 1) and parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed[..., 0], 255 * bits)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: b"", "expected lines of 1568 bytes"),
        (lambda d: d[:-1], "expected lines of 1568 bytes"),
        (lambda d: d + b"0 1\n", "expected lines of 1568 bytes"),
        (lambda d: replaced(d, 1568 + 2 * 9, b"2"), r"b'2 ' for value 10 of line 2"),
        (lambda d: replaced(d, 1568 + 2 * 9, b"."), r"b'\. ' for value 10 of line 2"),
        (lambda d: replaced(d, 1, b"\n"), "for value 1 of line 1"),
        (lambda d: replaced(d, 1567, b" "), "for value 784 of line 1"),
        (lambda d: d.replace(b" ", b",", 1), "for value 1 of line 1"),
        (lambda d: d.replace(b"\n", b" ", 1), "for value 784 of line 1"),
    ],
)
def test_parse_amat_refuses_other_files(damage, message):
    data = amat(np.random.default_rng(0).integers(0, 2, (3, 28, 28)))
    with pytest.raises(ValueError, match=message):
        parse_amat(damage(data))


def test_gzipped_amat_is_verified_by_its_content(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    contents = {n: amat(rng.integers(0, 2, (2, 28, 28))) for n in _amat_names()}
    infos = {
        draw_binarized_mnist.URL + name: checksums.UrlInfo(
            size=tfds.core.utils.Size(len(data)),
            checksum=hashlib.sha256(data).hexdigest(),
            filename=name,
        )
        for name, data in contents.items()
    }
    monkeypatch.setattr(DrawBinarizedMnist, "url_infos", infos)
    manual_dir = tmp_path / "manual"
    manual_dir.mkdir()
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, force_checksums_validation=True)
    good = {name: gzip.compress(data) for name, data in contents.items()}
    test_name = draw_binarized_mnist.FILES["test"]
    wrong = gzip.compress(contents[test_name].replace(b"1", b"0", 1))
    for bad, message in (
        (wrong, f"{test_name}.gz has wrong checksum"),
        (good[test_name][:-20], f"{test_name}.gz is not a whole gzip file"),
        (contents[test_name], f"{test_name}.gz is not a whole gzip file"),
    ):
        for name, data in (good | {test_name: bad}).items():
            (manual_dir / f"{name}.gz").write_bytes(data)
        builder = DrawBinarizedMnist(data_dir=tmp_path / "data")
        with pytest.raises(ValueError, match=message):
            builder.download_and_prepare(download_config=config, file_format="array_record")
        assert prepared.find(tmp_path / "data", "draw_binarized_mnist") is None
