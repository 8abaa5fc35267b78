"""The flags that name a trained model, and the data it was trained on."""

from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from draw_jax.system import cli

if TYPE_CHECKING:
    from draw_jax.model.task import Model, Variables


class ModelFlags(NamedTuple):
    """Which model; the values are there once the command line is parsed."""

    workdir: flags.FlagHolder
    pretrained: flags.FlagHolder | None  # None: the command takes runs only
    checkpoint: flags.FlagHolder

    def given(self) -> bool:
        """Returns whether the command line names a model."""
        return bool(self.workdir.value or self._pretrained())

    def run(self) -> str:
        """Returns what `checkpoint.load` takes; ValueError unless one model is named."""
        return cli.which_run(self.workdir.value, self._pretrained())

    def _pretrained(self) -> str:
        return "" if self.pretrained is None else self.pretrained.value


class DataFlags(NamedTuple):
    """Where the data lies, if not as in the run."""

    data_dir: flags.FlagHolder
    manual_dir: flags.FlagHolder


def define_model(flag_values: flags.FlagValues, pretrained: str = "") -> ModelFlags:
    """Defines --workdir, --checkpoint (and --step, its older name) and, with its help, --pretrained."""
    holders = ModelFlags(
        flags.DEFINE_string(
            "workdir", "", "A run directory that train made", flag_values=flag_values
        ),
        flags.DEFINE_string("pretrained", "", pretrained, flag_values=flag_values)
        if pretrained
        else None,
        flags.DEFINE_integer(
            "checkpoint",
            None,
            "Which checkpoint, by its step; default: best on validation",
            flag_values=flag_values,
        ),
    )
    flags.DEFINE_alias("step", "checkpoint", flag_values=flag_values)
    return holders


def define_data(flag_values: flags.FlagValues) -> DataFlags:
    """Defines --data_dir and --manual_dir."""
    return DataFlags(
        flags.DEFINE_string(
            "data_dir", "", "Where the data lies, if not as in the run", flag_values=flag_values
        ),
        flags.DEFINE_string(
            "manual_dir",
            "",
            "Original files of the data, in place of a download",
            flag_values=flag_values,
        ),
    )


def load(
    run: str, which: ModelFlags, where: DataFlags
) -> tuple[Any, "Model", "Variables", int | None]:
    """Returns `checkpoint.load_with_step` of a run, with the data folders of the flags."""
    from draw_jax.runs import checkpoint

    config, model, variables, step = checkpoint.load_with_step(run, which.checkpoint.value)
    with config.unlocked():
        config.data.data_dir = where.data_dir.value or config.data.data_dir
        config.data.manual_dir = where.manual_dir.value or config.data.manual_dir
    return config, model, variables, step
