"""Draws with a model: draw-jax sample --workdir=runs/digits --out=samples [--kind=nearest].

With neither --workdir nor --pretrained it draws with the shipped weights `mnist`. --image=FILE
reconstructs a picture of your own, or names its class. The same --seed draws the same. Exit codes:
0 drawn, 1 error, 2 bad flags.
"""

import math
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

    from draw_jax.data.interface import LazyImages, Split
    from draw_jax.drawing import kinds
    from draw_jax.model.task import Model

# As in drawing/kinds.py, which takes seconds to import; those that need the data set come last.
# A model that draws has all except `glimpses`; a classifier that reads glimpses has only that.
KINDS = ("samples", "sequence", "interpolate", "fix_step", "reconstruct", "nearest", "glimpses")
NEED_DATA = ("reconstruct", "nearest", "glimpses")
DEFAULT_KINDS = ("samples", "sequence", "glimpses")  # those of them that the model has
ROWS = {"glimpses": 3}  # which fill a screen; 8 of the others
MAX_IMAGES = 10_000
_ROOM = 2**30  # bytes of a whole split as float32; a larger one is read while it is searched

FLAGS = flags.FlagValues()
_MODEL = model_flags.define_model(
    FLAGS, pretrained="Or the name of shipped weights; default: mnist"
)
_OUT = flags.DEFINE_string(
    "out", "samples", "The folder for pictures and arrays, made if missing", flag_values=FLAGS
)
_KIND = flags.DEFINE_list(
    "kind",
    None,
    f"Of {', '.join(KINDS)}; or all of the model's (default: samples,sequence; of a classifier "
    "glimpses)",
    flag_values=FLAGS,
)
_IMAGE = flags.DEFINE_string(
    "image",
    "",
    "A picture of your own to reconstruct or to classify: PNG, JPEG or WebP",
    flag_values=FLAGS,
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise", flag_values=FLAGS)
_ROWS = flags.DEFINE_integer(
    "rows",
    None,
    "Rows of a grid; images of a sequence or with glimpses (default: 8; with glimpses 3)",
    flag_values=FLAGS,
)
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
    _check_kinds()
    _check_sizes()
    run = _run()

    import jax

    from draw_jax.data.interface import DataNotFound
    from draw_jax.drawing import kinds
    from draw_jax.system import compilation

    compilation.keep()
    config, model, variables, _ = model_flags.load(run, _MODEL, _DATA)
    wanted = [] if _IMAGE.value else _kinds(config, model)
    job: kinds.Job = kinds.Job(
        model,
        variables,
        jax.random.key(_SEED.value),
        Path(_OUT.value),
        lambda split, count: _data(config, split, count),
        lambda: _training(config),
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
        for path in _own_picture(job, config):
            print(path)
        return 0
    for kind in wanted:
        rows = ROWS.get(kind, 8) if _ROWS.value is None else _ROWS.value
        try:
            for path in kinds.of_model(model)[kind](job._replace(rows=rows)):
                print(path)
        except DataNotFound as error:
            if _KIND.value != ["all"]:
                raise
            print(f"skipped {kind}, which needs the data: {str(error).splitlines()[0]}")
    return 0


def _check_kinds() -> None:
    """Raises ValueError for a kind that no model has, before one is loaded."""
    asked = _KIND.value
    if asked is None or asked == ["all"]:
        return
    if not any(asked):
        raise ValueError(f"--kind: expected of {', '.join(KINDS)}, or all; got none")
    for kind in asked:
        if kind not in KINDS:
            raise ValueError(f"--kind: expected of {', '.join(KINDS)}, or all; got {kind!r}")


def _kinds(config: "ConfigDict", model: "Model") -> list[str]:
    """Returns the kinds asked for, those that need no data first."""
    from draw_jax.drawing import kinds

    has = [kind for kind in KINDS if kind in kinds.of_model(model)]
    if not has:
        raise UserError(
            f"a model of config.kind {config.kind!r} draws nothing; --image=FILE names the class of "
            "a picture, draw-jax evaluate measures the model"
        )
    if _KIND.value is None:
        return [kind for kind in has if kind in DEFAULT_KINDS]
    wanted = has if _KIND.value == ["all"] else _KIND.value
    for kind in wanted:
        if kind not in has:
            raise ValueError(
                f"--kind: a model of config.kind {config.kind!r} has {', '.join(has)}; got {kind!r}"
            )
    return sorted(wanted, key=lambda kind: kind in NEED_DATA)


def _own_picture(job: "kinds.Job", config: "ConfigDict") -> list[Path]:
    """Draws what the model does with --image, and says the class where it names one."""
    import numpy as np
    from scipy import special

    from draw_jax.drawing import glimpses, kinds, own_picture
    from draw_jax.model.draw import Draw

    box, binary = own_picture.box(config.data), config.data.binarization != "none"
    image = own_picture.load(_IMAGE.value, job.model.image_shape, box, binary)
    if isinstance(job.model, Draw):
        return kinds.reconstruct_images(job, image)
    seen = None
    if glimpses.looks(job.model):
        seen = glimpses.seen(job.model, job.variables, image, None, job.key)
    logits = np.asarray(seen.logits if seen else job.model.apply(job.variables, image))
    last = special.softmax(logits[-1, 0])
    print(f"class {last.argmax()} (probability {last.max():.2f})")
    return kinds.save_glimpses(job, seen) if seen else []


def _check_sizes() -> None:
    cli.check_seed("--seed", _SEED.value)
    for name, flag in (("rows", _ROWS), ("columns", _COLUMNS)):
        if flag.value is not None and not 1 <= flag.value <= MAX_IMAGES:
            raise ValueError(f"--{name}: expected 1 to {MAX_IMAGES:,}, got {flag.value}")
    if (_ROWS.value or 8) * _COLUMNS.value > MAX_IMAGES:
        raise ValueError(
            f"--rows, --columns: expected at most {MAX_IMAGES:,} images together, got "
            f"{_ROWS.value or 8} x {_COLUMNS.value}"
        )


def _run() -> str:
    if _MODEL.given():
        return _MODEL.run()
    print("drawing with the shipped weights `mnist`; --workdir=DIR draws with a run of your own")
    return "mnist"


def _load(config: "ConfigDict", split: str) -> "Split":
    """Returns a split as the run reads it, but with one fixed image for each that varies.

    Sets made of MNIST's digits use scikit-learn's if MNIST would have to be downloaded.
    """
    from draw_jax.data import fetch, sources, splits

    data = config.data.copy_and_resolve_references()
    made_of_mnist = data.name in sources.MADE and data.get("source") == "mnist"
    if made_of_mnist and not (data.manual_dir or fetch.find(sources.root(data), "mnist")):
        print(
            "MNIST is not on this disk (--data_dir=DIR says where else it is): the images are made "
            "of scikit-learn's digits"
        )
        data.source = "digits"
    shape = config.model.image_shape
    stored = splits.load(data, split, shape, flags="--", seed=config.seed, still=True)
    splits.check_shape(stored, shape, data.name)
    return stored


def _data(config: "ConfigDict", split: str, count: int) -> "kinds.Data":
    """Returns the first images of a split as the model sees them; one fixed draw where it binarises.

    Args:
        config: of the run.
        split: train, validation or test.
        count: images at most.
    """
    import jax
    import numpy as np

    from draw_jax.data import splits
    from draw_jax.drawing.kinds import Data

    stored = _load(config, split)
    images, labels = stored.batch(np.arange(min(len(stored), count)))
    shown = splits.prepare(images, config.data.binarization, jax.random.key(0))
    return Data(np.asarray(shown), labels)


def _training(config: "ConfigDict") -> "np.ndarray | LazyImages":
    """Returns all training images as the model sees them, one fixed draw where it binarises.

    Of SVHN's numbers it is the middle crop, which is the same for all runs. Images that do not fit
    into memory are read, and binarised with a key for each, on demand. Of an endless set, as many
    of the first images as fit stand for all, and a message says so.

    Args:
        config: of the run.
    """
    import jax
    import numpy as np

    from draw_jax.data import splits
    from draw_jax.data.interface import LazyImages

    stored, binarization = _load(config, "train"), config.data.binarization
    room, key = _ROOM // (4 * math.prod(stored.image_shape)), jax.random.key(0)
    if stored.endless:
        print(
            f"the training images of {config.data.name} have no end: the first {room:,} stand for all"
        )
    elif len(stored) > room:

        @jax.jit
        @jax.vmap
        def prepare(image: jax.Array, index: jax.Array) -> jax.Array:
            return splits.prepare(image, binarization, jax.random.fold_in(key, index))

        return LazyImages(stored, lambda images, at: np.asarray(prepare(images, at)))
    images = stored.batch(np.arange(min(len(stored), room))).images
    return np.asarray(splits.prepare(images, binarization, key))


def command(argv: Sequence[str]) -> int:
    """Does what a command line says and returns the exit code; argv begins with the program."""
    return cli.run(main, argv, flag_values=FLAGS)
