"""Draws with a model: draw-jax sample --workdir=runs/digits --out=samples [--kind=nearest].

With neither --workdir nor --pretrained it draws with the shipped weights `mnist`. --image=FILE
reconstructs a picture of your own. Repeatable by --seed. Exit codes: 0 drawn, 1 error, 2 bad flags.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from draw_jax.commands import model_flags
from draw_jax.system import cli
from draw_jax.system.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

# As in drawing/kinds.py, which takes seconds to import; those that need the data set come last.
KINDS = ("samples", "sequence", "interpolate", "fix_step", "reconstruct", "nearest")
NEED_DATA = ("reconstruct", "nearest")
MAX_IMAGES = 10_000

FLAGS = flags.FlagValues()
_MODEL = model_flags.define_model(
    FLAGS, pretrained="Or the name of shipped weights; default: mnist"
)
_OUT = flags.DEFINE_string(
    "out", "samples", "The folder for pictures and arrays, made if missing", flag_values=FLAGS
)
_KIND = flags.DEFINE_list(
    "kind", ["samples", "sequence"], f"Of {', '.join(KINDS)}; or all", flag_values=FLAGS
)
_IMAGE = flags.DEFINE_string(
    "image", "", "A picture of your own to reconstruct: PNG, JPEG or WebP", flag_values=FLAGS
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise", flag_values=FLAGS)
_ROWS = flags.DEFINE_integer("rows", 8, "Rows of a grid; images of a sequence", flag_values=FLAGS)
_COLUMNS = flags.DEFINE_integer("columns", 8, "Columns of a grid", flag_values=FLAGS)
_SCALE = flags.DEFINE_integer(
    "scale", None, "Whole-number enlargement; default: readable", flag_values=FLAGS
)
_DRAWS = flags.DEFINE_bool(
    "draws", False, "samples: draws from D instead of its means", flag_values=FLAGS
)
_LINEAR = flags.DEFINE_bool(
    "linear", False, "interpolate: straight lines instead of arcs", flag_values=FLAGS
)
_TIME_STEP = flags.DEFINE_integer(
    "time_step", 1, "fix_step: the time step whose z is shared", flag_values=FLAGS
)
flags.DEFINE_alias("fixed_step", "time_step", flag_values=FLAGS)
_DATA = model_flags.define_data(FLAGS)


def main() -> int:
    """Draws every kind asked for, prints the files and returns the exit code."""
    wanted = _kinds()
    _check_sizes()
    run = _run()

    import jax

    from draw_jax.data.interface import DataNotFound
    from draw_jax.drawing import kinds, own_picture
    from draw_jax.model import build
    from draw_jax.system import compilation

    compilation.keep()
    config, model, variables = model_flags.load(run, _MODEL, _DATA)
    job = kinds.Job(
        build.drawing(model),
        variables,
        jax.random.key(_SEED.value),
        Path(_OUT.value),
        lambda split: _images(config, split),
        rows=_ROWS.value,
        columns=_COLUMNS.value,
        scale=_SCALE.value,
        draws=_DRAWS.value,
        linear=_LINEAR.value,
        time_step=_TIME_STEP.value,
    )
    try:
        job.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out={job.out}: that folder cannot be made ({error.strerror}); name another"
        ) from None
    if _IMAGE.value:
        box = own_picture.BOXES.get(config.data.name)
        binary = config.data.binarization != "none"
        image = own_picture.load(_IMAGE.value, model.image_shape, box, binary)
        for path in kinds.reconstruct_images(job, image):
            print(path)
        return 0
    for kind in wanted:
        try:
            for path in kinds.KINDS[kind](job):
                print(path)
        except DataNotFound as error:
            if _KIND.value != ["all"]:
                raise
            print(f"skipped {kind}, which needs the data: {str(error).splitlines()[0]}")
    return 0


def _kinds() -> list[str]:
    """Returns the kinds asked for, those that need no data first."""
    if not any(_KIND.value):
        raise ValueError(f"--kind: expected of {', '.join(KINDS)}, or all; got none")
    wanted = KINDS if _KIND.value == ["all"] else tuple(_KIND.value)
    for kind in wanted:
        if kind not in KINDS:
            raise ValueError(f"--kind: expected of {', '.join(KINDS)}, or all; got {kind!r}")
    return sorted(wanted, key=lambda kind: kind in NEED_DATA)


def _check_sizes() -> None:
    cli.check_seed("--seed", _SEED.value)
    for name, flag in (("rows", _ROWS), ("columns", _COLUMNS)):
        if not 1 <= flag.value <= MAX_IMAGES:
            raise ValueError(f"--{name}: expected 1 to {MAX_IMAGES:,}, got {flag.value}")
    if _ROWS.value * _COLUMNS.value > MAX_IMAGES:
        raise ValueError(
            f"--rows, --columns: expected at most {MAX_IMAGES:,} images together, got "
            f"{_ROWS.value} x {_COLUMNS.value}"
        )


def _run() -> str:
    if _MODEL.given():
        return _MODEL.run()
    print("drawing with the shipped weights `mnist`; --workdir=DIR draws with a run of your own")
    return "mnist"


def _images(config: "ConfigDict", split: str) -> "np.ndarray":
    """Returns a split as the model sees it; one fixed draw where it binarises."""
    import jax
    import numpy as np

    from draw_jax.data import splits

    stored = splits.load(config.data, split, config.model.image_shape, flags="--")
    splits.check_shape(stored, config.model.image_shape)
    images = stored.batch(np.arange(len(stored))).images
    return np.asarray(splits.prepare(images, config.data.binarization, jax.random.key(0)))


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, argv, flag_values=FLAGS)
