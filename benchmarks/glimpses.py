"""Error against the number of glimpses: python -m benchmarks.glimpses --results=t4.json,t8.json.

The files are those that `evaluate.py --json=FILE` wrote of models of as many glimpses.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from draw_jax.drawing.figures import curves
from draw_jax.system import cli

_RESULTS = flags.DEFINE_list("results", [], "Files of evaluate.py --json, one a model")
_OUT = flags.DEFINE_string("out", "error_by_glimpses.png", "The picture")


def main() -> int:
    """Draws and prints the errors and returns the exit code."""
    if not _RESULTS.value:
        raise ValueError("--results: expected files that evaluate.py --json wrote, got none")
    results = sorted(map(_read, _RESULTS.value), key=lambda r: len(r["error_per_step"]))
    counts = [len(result["error_per_step"]) for result in results]
    for one, other in itertools.pairwise(counts):
        if one == other:
            raise ValueError(
                f"--results: expected one of each number of glimpses, got two of {one}"
            )
    series: dict[str, tuple[Any, Any]] = {
        "models trained for so many glimpses": (counts, [100 * r["error"] for r in results])
    }
    last = results[-1]["error_per_step"]
    if len(last) > 1:
        name = f"after each glimpse of the model trained for {len(last)}"
        series[name] = (range(1, len(last) + 1), [100 * rate for rate in last])
    curves.curves(series, _OUT.value, x_label="glimpses", y_label="error, %")
    print("| glimpses | error, % | 95 % interval | images |\n|---|---|---|---|")
    for count, r in zip(counts, results, strict=True):
        low, high = 100 * r["error_low"], 100 * r["error_high"]
        print(f"| {count} | {100 * r['error']:.2f} | {low:.2f} to {high:.2f} | {r['images']:,} |")
    print(_OUT.value)
    return 0


def _read(path: str) -> dict[str, Any]:
    try:
        result = json.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"--results: cannot read {path} ({error.strerror})") from None
    except ValueError:
        raise ValueError(f"--results: {path} is no JSON") from None
    if not isinstance(result, dict) or "error_per_step" not in result:
        raise ValueError(f"--results: {path} is not of a classifier's evaluate.py --json")
    return result


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
