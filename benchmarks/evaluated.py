"""Files that `evaluate.py --json=FILE` wrote, for the programs that draw figures from them."""

import json
from pathlib import Path
from typing import Any


def read(path: str, field: str, kind: str) -> dict[str, Any]:
    """Returns what a file of --results holds.

    Args:
        path: of the file.
        field: that the result must have.
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
    if not isinstance(result, dict) or field not in result:
        raise ValueError(f"--results: {path} is not of {kind}")
    return result


def given(paths: list[str]) -> list[str]:
    """Returns the files of --results.

    Raises:
        ValueError: if there are none.
    """
    if not paths:
        raise ValueError("--results: expected files that evaluate.py --json wrote, got none")
    return paths
