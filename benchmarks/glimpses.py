"""Error against the number of glimpses: python -m benchmarks.glimpses --results=t4.json,t8.json.

`evaluate.py --json=FILE` writes the files, one for each model's number of glimpses.
"""

import itertools
import sys
from typing import Any

from absl import flags

from benchmarks import evaluated
from draw_jax.drawing.figures import curves
from draw_jax.system import cli

_RESULTS = flags.DEFINE_list("results", [], "Files of evaluate.py --json, one a model")
_OUT = flags.DEFINE_string("out", "error_by_glimpses.png", "The picture")


def main() -> int:
    """Draws and prints the errors and returns the exit code."""
    kind = "a classifier's evaluate.py --json"
    paths = evaluated.given(_RESULTS.value)
    found = {path: evaluated.read(path, "error_per_step", kind) for path in dict.fromkeys(paths)}
    images = evaluated.images(found)
    results = sorted(
        (found[path] for path in paths), key=lambda result: len(result["error_per_step"])
    )
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
    log = all(min(errors) > 0 for _, errors in series.values())
    curves.curves(series, _OUT.value, x_label="glimpses", y_label="error, %", whole=True, log=log)
    print(f"{images}\n\n| glimpses | error, % | 95 % interval |\n|---|---|---|")
    for count, r in zip(counts, results, strict=True):
        low, high = 100 * r["error_low"], 100 * r["error_high"]
        print(f"| {count} | {100 * r['error']:.2f} | {low:.2f} to {high:.2f} |")
    print(_OUT.value)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
