"""Files that `evaluate.py --json=FILE` wrote, for the programs that draw figures from them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OF_ALL = ("data", "split", "images")


def read(path: str, field: str, kind: str) -> dict[str, Any]:
    """Returns what a file of --results holds.

    Args:
        path: of the file.
        field: that the result must have, beside what all have.
        kind: whose results have it, for the message.

    Raises:
        ValueError: if the file cannot be read, or holds something else.
    """
    try:
        result = json.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"--results: cannot read {path} ({error.strerror})") from None
    except ValueError:
        raise ValueError(f"--results: {path} is no JSON") from None
    if not isinstance(result, dict) or not {field, *_OF_ALL} <= result.keys():
        raise ValueError(f"--results: {path} is not of {kind}")
    return result


def images(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns which images some results, by the paths of their files, are of, in words.

    Raises:
        ValueError: if they are not the same.
    """
    (first, ours), *others = results.items()
    for path, theirs in others:
        for name in ("data", "split", "images"):
            if ours[name] != theirs[name]:
                raise ValueError(
                    f"--results: expected files of the same {name}, got {ours[name]} in {first} and "
                    f"{theirs[name]} in {path}"
                )
    return f"{ours['data']}, {ours['split']}, {ours['images']:,} images"


def given(paths: list[str]) -> list[str]:
    """Returns the files of --results.

    Raises:
        ValueError: if there are none.
    """
    if not paths:
        raise ValueError("--results: expected files that evaluate.py --json wrote, got none")
    return paths
