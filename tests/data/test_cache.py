import os
import resource

import numpy as np
import pytest

from draw_jax.data import cache
from tests.data.helpers import replaced


def values(count, high=256):
    return np.random.default_rng(0).integers(0, high, (count, 6, 7, 3), dtype=np.uint8)


class Decoder:
    """Gives images and labels, and counts how often."""

    def __init__(self, images, labels=None):
        self.images, self.labels, self.calls = images, labels, 0

    def __call__(self):
        self.calls += 1
        return self.images.copy(), self.labels


def once(decoder, place="here", fingerprint="as it is"):
    return cache.decoded_once("toy-train", place, fingerprint, decoder)


@pytest.mark.parametrize("labels", [None, np.arange(20, dtype=np.int32)])
def test_a_second_call_takes_the_cache(cache_dir, labels):
    decoder = Decoder(values(20), labels)
    for _ in range(2):
        split = once(decoder)
        np.testing.assert_array_equal(split.images, decoder.images)
        assert split.images.dtype == np.uint8 and split.binary is False
        assert (split.labels is None) == (labels is None)
        if labels is not None:
            np.testing.assert_array_equal(split.labels, labels)
            assert split.labels.dtype == np.int32
    assert decoder.calls == 1
    once(decoder, place="elsewhere")
    assert decoder.calls == 2 and len(list(cache_dir.iterdir())) == 2
    once(decoder, fingerprint="changed")
    assert decoder.calls == 3 and len(list(cache_dir.iterdir())) == 2  # the former one is replaced


@pytest.mark.parametrize(
    ("images", "expected", "binary"),
    [
        (values(5, 2), 255 * values(5, 2), True),
        (255 * values(5, 2), 255 * values(5, 2), True),
        (np.zeros((5, 6, 7, 3), np.uint8), np.zeros((5, 6, 7, 3)), True),
        (values(5, 3), values(5, 3), False),
        (values(5), values(5), False),
    ],
)
def test_pixels_are_looked_at_once(images, expected, binary, cache_dir):
    decoder = Decoder(images)
    for _ in range(2):
        split = once(decoder)
        np.testing.assert_array_equal(split.images, expected)
        assert split.binary is binary
    (path,) = cache_dir.iterdir()
    with np.load(path) as stored:  # no later start has to look for itself
        np.testing.assert_array_equal(stored["images"], expected)
        assert bool(stored["binary"]) is binary


@pytest.mark.parametrize("binary", [None, False])
def test_a_cache_of_another_format_is_not_read(cache_dir, binary):
    bits = Decoder(values(5, 2))
    once(bits)
    (path,) = cache_dir.iterdir()
    # What the first format kept: pixels as they were stored, and no word on whether they are binary.
    arrays = {"fingerprint": np.array("as it is"), "images": bits.images}
    with path.open("wb") as file:
        np.savez(file, **arrays | ({} if binary is None else {"binary": np.array(binary)}))
    np.testing.assert_array_equal(once(bits).images, 255 * bits.images)
    assert bits.calls == 2


def test_a_damaged_cache_costs_only_time(cache_dir):
    decoder = Decoder(values(20), np.arange(20, dtype=np.int32))
    once(decoder)
    (path,) = cache_dir.iterdir()
    intact = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", intact[: len(intact) // 2], intact[:-1], b"\x93NUMPY" + intact]
    for position in [*range(0, 120, 7), *rng.integers(0, len(intact), 60)]:
        flipped = intact[position] ^ (1 << int(rng.integers(8)))
        damaged.append(replaced(intact, position, bytes([flipped])))
    for content in damaged:
        path.write_bytes(content)
        split = once(decoder)
        np.testing.assert_array_equal(split.images, decoder.images)
        np.testing.assert_array_equal(split.labels, np.arange(20))
    assert decoder.calls > 60  # a few bits, as of a date, mean nothing


def test_a_cache_that_cannot_be_written_costs_only_time(cache_dir, monkeypatch):
    decoder = Decoder(values(200))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as on a full disk
    try:
        np.testing.assert_array_equal(once(decoder).images, decoder.images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(cache_dir.iterdir()) == []  # no half-written file stays
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)  # no folder can be made there
    np.testing.assert_array_equal(once(decoder).images, decoder.images)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without a home
    np.testing.assert_array_equal(once(decoder).images, decoder.images)
    assert decoder.calls == 3
