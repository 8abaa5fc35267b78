"""What each time step's latents carry: python -m benchmarks.per_step --results=mnist.json.

The files are those that `evaluate.py --active_units --json=FILE` wrote. Draws the KL of each time
step, and prints it beside the number of latent units that are active there.
"""

import sys
from pathlib import Path

from absl import flags

from benchmarks import evaluated
from draw_jax.drawing.figures import curves
from draw_jax.system import cli

_RESULTS = flags.DEFINE_list(
    "results", [], "Files of evaluate.py --active_units --json, one a model"
)
_OUT = flags.DEFINE_string("out", "kl_per_step.png", "The picture")


def main() -> int:
    """Draws and prints what the files hold and returns the exit code."""
    paths = evaluated.given(_RESULTS.value)
    kind = "evaluate.py --active_units --json"
    found = {path: evaluated.read(path, "active_per_step", kind) for path in paths}
    results = {Path(path).stem: result for path, result in found.items()}
    if len(results) < len(paths):
        raise ValueError(
            f"--results: expected files of different names, which name the models, got {', '.join(paths)}"
        )
    print(f"{evaluated.images(found)}\n")
    curves.curves(
        {
            name: (range(1, len(r["kl_per_step"]) + 1), r["kl_per_step"])
            for name, r in results.items()
        },
        _OUT.value,
        x_label="time step",
        y_label="KL, nats per image",
        whole=True,
    )
    for name, result in results.items():
        units = result["latent_units"] // len(result["kl_per_step"])
        print(
            f"{name}: {result['active_units']:,} of {result['latent_units']:,} latent units active\n"
        )
        print(f"| time step | KL, nats | active of {units} |\n|---|---|---|")
        both = zip(result["kl_per_step"], result["active_per_step"], strict=True)
        for step, (kl, active) in enumerate(both, start=1):
            print(f"| {step} | {kl:.3f} | {active} |")
        print()
    print(_OUT.value)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv))
