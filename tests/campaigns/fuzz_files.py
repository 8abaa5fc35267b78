"""Strange files for `fuzz`: pictures, folders of them, archives, what lies in a run directory."""

import contextlib
import copy
import functools
import gzip
import io
import json
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.campaigns.campaign import Broken
from tests.campaigns.commands import own_folder, refused
from tests.data.helpers import config as data_config
from tests.data.helpers import idx, store
from tests.helpers import small_config

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB", "HSV")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Returns bytes that were cut, flipped, repeated, replaced or left as they are."""
    how = rng.randrange(8)
    at = rng.randrange(len(data) or 1)
    if how == 0:
        return data[:at]
    if how == 1:
        return rng.randbytes(rng.randrange(200))
    if how == 2:
        return data[:at] + rng.randbytes(rng.randint(1, 9)) + data[at:]
    if how == 3:
        return data + data
    if how == 4:
        return data[:at] + data[at + rng.randint(1, 40) :]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 30)) if how < 7 else 0):
        if changed:
            place = rng.randrange(min(len(changed), rng.choice((40, 10**9))))  # mostly the header
            changed[place] = rng.choice((0, 255, 127, 128, changed[place] ^ 1, rng.randrange(256)))
    return bytes(changed)


# --- pictures


def picture(rng: random.Random) -> bytes:
    """Returns a picture of any mode and format, mostly damaged."""
    size = rng.choice(
        ((1, 1), (40, 30), (28, 28), (1, 300), (300, 1), (64, 64), (2, 2), (29, 2000))
    )
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (size[1], size[0], 3))
    image = Image.fromarray(noise.astype(np.uint8))
    if rng.random() < 0.2:
        image = Image.new("RGB", size, rng.choice(("black", "white", "red")))
    file = io.BytesIO()
    form = rng.choice(FORMATS[:3] if rng.random() < 0.7 else FORMATS)
    with contextlib.suppress(OSError, ValueError, KeyError):  # not all formats have all modes
        image = image.convert(rng.choice(MODES))
    with contextlib.suppress(OSError, ValueError, KeyError, SystemError):
        exif = Image.Exif()
        exif[0x0112] = rng.choice((1, 6, 8, 0, 99))
        image.save(file, form, exif=exif)
    data = file.getvalue()
    if data.startswith(b"\x89PNG") and rng.random() < 0.15:  # sizes that nobody has
        sizes = (0, 1, 2**31 - 1, 65535, 20000)
        data = data[:16] + struct.pack(">II", rng.choice(sizes), rng.choice(sizes)) + data[24:]
    return damaged(data, rng)


def play_picture(rng: random.Random, folder: Path) -> str:
    """A picture as `sample.py --image` takes it."""
    from draw_jax.drawing import own_picture

    path = folder / "picture.png"
    path.write_bytes(picture(rng))
    shape = rng.choice(((28, 28, 1), (28, 28, 3), (5, 9, 1), (1, 1, 1), (100, 100, 3), (28, 28, 2)))
    box, binary = rng.choice((None, 1.0, 20 / 28)), rng.random() < 0.5

    def load() -> None:
        values = own_picture.load(path, shape, box, binary)
        assert values.shape == (1, *shape) and values.dtype == np.float32
        assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1

    return "taken" if refused(load) is None else "refused"


def play_folder(rng: random.Random, folder: Path) -> str:
    """A folder of pictures of one's own, strange ones among them."""
    from draw_jax.data import splits

    pictures = folder / "pictures"
    for number in range(rng.choice((1, 2, 6))):
        name = rng.choice(("{}.png", "{}.jpg", "a/{}.webp", "b\n/ü{}.PNG", "{}.gif", ".h{}.png"))
        path = pictures / name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        what = rng.random()
        if what < 0.9:
            path.write_bytes(picture(rng))
        elif what < 0.93:
            os.mkfifo(path)
        elif what < 0.96:
            path.mkdir()
        else:
            path.symlink_to(rng.choice((path, folder, "/nosuch")))
    shape = rng.choice(((28, 28, 1), (5, 9, 3), (1, 1, 1), (28, 28, 2)))

    def load() -> None:
        data = data_config("image_folder", pictures)
        split = splits.load(data, rng.choice(splits.SPLITS), shape)
        assert split.image_shape == shape
        assert split.batch(np.arange(1)).images.shape == (1, *shape)

    with contextlib.redirect_stderr(io.StringIO()):
        return "taken" if refused(load) is None else "refused"


# --- archives


@functools.cache
def prepared_set() -> Path:
    """Returns a folder of a prepared set of twelve images, made once."""
    folder = own_folder()
    images = list(np.random.default_rng(0).integers(0, 256, (12, 6, 5, 1), dtype=np.uint8))
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        store(folder, "toy", {"train": images, "test": images[:3]}, labels=True)
    return folder


def play_archive(rng: random.Random, folder: Path) -> str:
    """Prepared sets, caches of decoded images and original files, damaged."""
    return rng.choice((_play_prepared, _play_cache, _play_original))(rng, folder)


def _play_prepared(rng: random.Random, folder: Path) -> str:
    from draw_jax.data import splits

    shutil.copytree(prepared_set(), folder / "data")
    path = rng.choice(sorted(p for p in (folder / "data").rglob("*") if p.is_file()))
    if path.suffix == ".json":
        path.write_bytes(strange_json(path.read_bytes(), rng))
    else:
        path.write_bytes(damaged(path.read_bytes(), rng))

    def load() -> None:
        split = splits.load(data_config("toy", folder / "data"), rng.choice(splits.SPLITS))
        assert split.images.dtype == np.uint8 and len(split) > 0

    return "taken" if refused(load) is None else "refused"


def _play_cache(rng: random.Random, folder: Path) -> str:
    from draw_jax.data import cache
    from draw_jax.data.interface import ArraySplit

    images = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 1), dtype=np.uint8)
    split, path = ArraySplit(images, np.arange(12, dtype=np.int32), False), folder / "cache.npz"
    cache.write_cache(path, "of these", split)
    path.write_bytes(damaged(path.read_bytes(), rng))
    found = cache.read_cache(path, "of these")
    if found is None:
        return "refused"
    if not (np.array_equal(found.images, images) and found.binary is False):
        raise Broken("a damaged cache gave other images")
    if found.labels is not None and not np.array_equal(found.labels, split.labels):
        raise Broken("a damaged cache gave other labels")
    return "taken"


def _play_original(rng: random.Random, folder: Path) -> str:
    from draw_jax.data.builders import draw_binarized_mnist, draw_mnist

    image = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    if rng.random() < 0.5:
        data, parse = gzip.decompress(idx(image)), draw_mnist.parse_idx
    else:
        bits = (image > 127).astype(int).reshape(3, -1)
        data = "".join(" ".join(map(str, row)) + "\n" for row in bits).encode()
        parse = draw_binarized_mnist.parse_amat
    data = damaged(data, rng)
    return "taken" if refused(lambda: parse(data)) is None else "refused"


# --- files of a run

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1,
        2.5,
        10**30,
        float("nan"),
        float("inf"),
        "",
        "x",
        "a\nb",
        [],
        [1],
        ["x"],
    ),
    *({}, {"a": 1}, [[]], "ü\0", -(10**400)),
)


def strange_json(data: bytes, rng: random.Random) -> bytes:
    """Returns JSON with some values replaced, or damaged bytes, or something else altogether."""
    how = rng.random()
    if how < 0.2:
        return damaged(data, rng)
    if how < 0.3:
        deep = b"[" * 100_000
        return rng.choice(
            (b"", b"[]", b"5", b'"x"', b"null", b"\xff\xfe", deep, b"9" * 5000, b"{}")
        )
    document = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        place = document
        while isinstance(place, dict | list) and place:
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
            if rng.random() < 0.4 or not isinstance(place[key], dict | list) or not place[key]:
                place[key] = copy.deepcopy(rng.choice(VALUES))  # it may be changed next
                if isinstance(place, dict) and rng.random() < 0.2:
                    del place[key]
                break
            place = place[key]
    return json.dumps(document).encode()


def play_run_file(rng: random.Random, folder: Path) -> str:
    """config.json, metrics.jsonl and a checkpoint's digests, read by what reads them."""
    return rng.choice((_play_config_json, _play_metrics, _play_metrics, _play_digests))(rng, folder)


def _play_config_json(rng: random.Random, folder: Path) -> str:
    from draw_jax.model import build
    from draw_jax.runs import checkpoint, directory, export
    from draw_jax.training import config as settings

    source = small_config().to_json().encode()
    (folder / "config.json").write_bytes(strange_json(source, rng))
    if rng.random() < 0.3:
        (folder / "weights.npz").write_bytes(rng.randbytes(40))

    def read() -> None:
        directory.is_unsigned(folder)
        config = directory.read_config(folder)
        build.build(config)
        settings.differing_fields(config, small_config())
        assert export.names()

    told = refused(read)
    if refused(lambda: checkpoint.load(folder)) is None:
        raise Broken("a model without weights")
    return "taken" if told is None else "refused"


def _play_metrics(rng: random.Random, folder: Path) -> str:
    from draw_jax.drawing import report
    from draw_jax.model import build
    from draw_jax.runs import digests, stored
    from draw_jax.runs.metrics import MetricsFile
    from draw_jax.training.divergence import Watch

    task = _task()
    base = {"step": 1, "elbo_loss": 2.0, "nll": 1.0, "kl": 1.0, "kl_per_step": [0.5, 0.5]}
    signed, lines = rng.random() < 0.5, []
    for step in range(1, 6):
        row: dict[str, Any] = base | {"step": step, "split": rng.choice(("train", "validation"))}
        line = json.dumps(digests.signed(row) if signed else row).encode()
        lines.append(strange_json(line, rng) if rng.random() < 0.4 else line)
    path = folder / "metrics.jsonl"
    path.write_bytes(rng.choice((b"\n", b"\n", b"\r\n", b"\n\n")).join(lines))
    file = MetricsFile(path)

    def read() -> None:
        rows = file.rows()
        if signed and any(row != base | {k: row[k] for k in ("step", "split")} for row in rows):
            raise Broken("a damaged line was taken")
        stored.validation_losses(folder, task)
        assert Watch(task.objective, 100, rows).good_until > 0
        if rng.random() < 0.3:  # a picture takes long
            report.write(folder, rows, task.columns)
        file.cut_back(3)
        assert all(row["step"] <= 3 for row in file.rows())

    assert build.KINDS
    return "taken" if refused(read) is None else "refused"


@functools.cache
def _task() -> Any:
    from draw_jax.model import build

    return build.task(build.build(small_config()))


def _play_digests(rng: random.Random, folder: Path) -> str:
    from draw_jax.runs import checkpoint
    from tests.campaigns.fuzz import tiny_run

    run = Path(shutil.copytree(tiny_run(), folder / "tiny"))
    path = run / "checkpoints" / "16" / rng.choice(("digests", "average")) / "metadata"
    path = path if path.exists() else path.with_name("_METADATA")
    path.write_bytes(strange_json(path.read_bytes(), rng))
    told = refused(lambda: checkpoint.load(run))
    if told is not None:
        raise Broken(f"there is a sound checkpoint: {told}")
    return "taken"
