"""Sets with builders of our own: downloaded or taken from manual_dir, and prepared once."""

import contextlib
import fcntl
import http.client
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from draw_jax.data import prepared
from draw_jax.data.interface import NO_FILES, DataNotFound

NAMES = ("mnist", "binarized_mnist", "cifar10", "omniglot28", "svhn_cropped")
_TIMEOUT_SECONDS = 5
_DOWNLOADS, _LOCK = "draw_jax_download_", "in_use.lock"  # folders, and what each holds


def find(data_dir: Path, name: str) -> Path | None:
    """Return the prepared folder of one of NAMES, our own builder's first; None if there is none.

    Raises:
        OSError: a folder exists but cannot be read.
    """
    return prepared.find(data_dir, f"draw_{name}") or prepared.find(data_dir, name)


def build(name: str, data_dir: Path, manual_dir: str, flags: str) -> Path:
    """Prepare one of NAMES in data_dir as array_record and return its folder.

    Args:
        name: one of NAMES.
        data_dir: made if missing.
        manual_dir: a folder with the original files, or some of them; "" is none.
        flags: the prefix of `data_dir` and `manual_dir` in advice.

    Raises:
        DataNotFound: the files cannot be obtained or are wrong, or data_dir cannot be written.
    """
    with prepared.quietly():
        try:
            tfds = prepared.import_tfds()
            from draw_jax.data.builders import (
                draw_binarized_mnist,
                draw_cifar10,
                draw_mnist,
                draw_omniglot28,
                draw_svhn_cropped,
            )
        except Exception as error:
            prepared.refuse_failed_import(error)
            raise
    builder: Any
    builder, base = {
        "mnist": (draw_mnist.DrawMnist, draw_mnist.URL),
        "binarized_mnist": (draw_binarized_mnist.DrawBinarizedMnist, draw_binarized_mnist.URL),
        "cifar10": (draw_cifar10.DrawCifar10, draw_cifar10.URL),
        "omniglot28": (draw_omniglot28.DrawOmniglot28, draw_omniglot28.URL),
        "svhn_cropped": (draw_svhn_cropped.DrawSvhnCropped, draw_svhn_cropped.URL),
    }[name]
    files = {url: i.filename for url, i in builder.url_infos.items() if url.startswith(base)}
    manual = Path(manual_dir).expanduser() if manual_dir else None
    try:
        if manual is not None and not manual.is_dir():
            raise NotADirectoryError(f"manual_dir {manual} is not a folder")
        for url, file in files.items():
            if manual is None or not any((manual / f).exists() for f in (file, f"{file}.gz")):
                _reach(url)
        with (
            _downloads(name, data_dir, flags) as downloads,
            contextlib.redirect_stdout(sys.stderr),
            warnings.catch_warnings(action="ignore"),
        ):
            builder(data_dir=data_dir).download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual, force_checksums_validation=True, try_download_gcs=False
                ),
                file_format="array_record",
            )
        cause = f"{data_dir / builder.name} is incomplete, delete it"
    except DataNotFound:
        raise
    except Exception as error:  # noqa: BLE001 - whatever network, disk and files bring
        prepared.refuse_failed_import(error)
        logging.debug("preparing %s failed", name, exc_info=True)
        cause = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    folder = find(data_dir, name)  # there, too, when another process was faster
    if folder is None:
        raise DataNotFound(_not_found(name, data_dir, manual, files, cause, flags))
    return folder


@contextlib.contextmanager
def _downloads(name: str, data_dir: Path, flags: str) -> Iterator[str]:
    """Gives a folder that is deleted afterwards, so that no later program takes half a file.

    Those that killed programs have left are deleted, too: nobody holds the lock in them.
    """
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            for left in data_dir.glob(f"{_DOWNLOADS}*"):
                with contextlib.suppress(OSError), (left / _LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=_DOWNLOADS, dir=data_dir)
            )
            lock = stack.enter_context(Path(folder, _LOCK).open("w"))
        except OSError as error:
            raise DataNotFound(
                f"cannot prepare {name!r} in data_dir {data_dir} ({error.strerror}): set "
                f"{flags}data_dir=DIR to a folder that can be written"
            ) from None
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def _reach(url: str) -> None:
    """Raise at once what tensorflow-datasets would find out after minutes of retries."""
    try:
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:  # anything less it does not retry
            raise OSError(f"cannot download {url} ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise OSError(f"cannot download {url} ({reason})") from None


def _not_found(
    name: str,
    data_dir: Path,
    manual: Path | None,
    files: dict[str, str],
    cause: str,
    flags: str,
) -> str:
    base = next(iter(files)).removesuffix(next(iter(files.values())))
    manual_dir = f"in manual_dir {manual}" if manual else "in no manual_dir (none is set)"
    gzipped = ", as they are or gzipped" if name == "binarized_mnist" else ""
    return f"""data set {name!r} is not here: {cause}
Looked in {data_dir} for array_record folders draw_{name} and {name}{prepared.there(data_dir, name)}, \
and {manual_dir}.
Three ways out:
- on a machine with a network, in an empty folder: curl -fLO '{base}{{{",".join(files.values())}}}'
- {flags}manual_dir=DIR, the folder that has these files{gzipped}: {", ".join(files.values())}
- {NO_FILES}"""
