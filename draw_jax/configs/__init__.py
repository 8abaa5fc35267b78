"""The configurations that come with draw_jax: `from draw_jax.configs import mnist`.

They are the files of `configs/` at the top of a clone; a wheel holds a copy of them in `files/`.
"""

from pathlib import Path

_packed = Path(__file__).parent / "files"
FOLDER = _packed if _packed.is_dir() else Path(__file__).parents[2] / "configs"
__path__.append(str(FOLDER))


def names() -> list[str]:
    """Returns the names that `--config` takes without a path."""
    return sorted(file.stem for file in FOLDER.glob("[a-z]*.py"))
