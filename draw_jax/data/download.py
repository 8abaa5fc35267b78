"""Large files from the network, continued where a download was cut off."""

import http.client
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

_BUFFER = 1 << 20  # bytes
_TIMEOUT_SECONDS = 20


def download(url: str, path: Path) -> None:
    """Download a file, shown by a progress bar on a terminal.

    What arrived before a failure or a kill stays beside it as `NAME.part`, and the next call asks
    for the rest. Only the length is checked: the server's file must not have changed.

    Args:
        url: http or https.
        path: where to; its folder is made if missing. A file that is there is left as it is.

    Raises:
        OSError: it cannot be downloaded whole, or not written; says what and why.
    """
    if path.exists():
        return
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part)
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"cannot download {url} ({error})") from None
    except (
        urllib.error.URLError,
        TimeoutError,
        http.client.HTTPException,
        ConnectionError,
    ) as error:
        raise OSError(f"cannot download {url} ({getattr(error, 'reason', error)})") from None
    os.replace(part, path)


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to send: all was there
            raise
        error.close()
        return
    with answer:
        if answer.status != 206:  # a server that sends all of it, whatever is asked for
            have = 0
        left = answer.headers.get("Content-Length")
        whole = have + int(left) if left else None
        with (
            part.open("ab" if have else "wb") as file,
            tqdm(
                total=whole,
                initial=have,
                desc=f"downloading {part.stem}",
                unit="B",
                unit_scale=True,
                delay=1,
                disable=None,
                file=sys.stderr,
            ) as progress,
        ):
            while block := answer.read(_BUFFER):
                file.write(block)
                progress.update(len(block))
    if whole is not None and part.stat().st_size != whole:
        raise ConnectionError(f"cut off at {part.stat().st_size:,} of {whole:,} bytes")
