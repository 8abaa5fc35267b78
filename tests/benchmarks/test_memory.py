"""The memory of a training step."""

import jax
import pytest

from configs import mnist, smoke
from tests.benchmarks.commands import PLAIN, TINY, check_measured, check_table, run_measurements

COMMAND = ("benchmarks.memory", *TINY, *PLAIN, "--tasks=config")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns the command's runs at two numbers of time steps, 2 and 64."""
    commands = {"short": COMMAND, "long": (*COMMAND, "--config.model.time_steps=64")}
    return run_measurements(commands, tmp_path_factory.mktemp("memory"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["short", "long"])
def test_the_command_prints_a_table_and_writes_positive_figures(name, runs):
    check_measured(runs[name])
    check_table(runs[name])


@pytest.mark.slow
def test_memory_is_the_states_and_grows_with_the_steps(runs, modules):
    (short,), (long,) = (runs[name].figures["rows"] for name in ("short", "long"))
    assert (short["time_steps"], long["time_steps"]) == (2, 64)
    config = smoke.get_config()
    config.model.enc_size = config.model.dec_size = 8
    config.model.read_size = config.model.write_size = 0
    _, state, batch = modules.train_step.make_step(config)
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    for row in (short, long):
        assert row["alias_bytes"] == state_bytes  # all of the state is donated
        assert row["argument_bytes"] >= state_bytes + 4 * batch.images[0].nbytes
        assert row["peak_bytes"] == (
            row["argument_bytes"] + row["output_bytes"] + row["temp_bytes"] - row["alias_bytes"]
        )
    assert long["argument_bytes"] == short["argument_bytes"]
    # At least what the backward pass needs of 62 more steps: four gates of each LSTM.
    assert long["temp_bytes"] - short["temp_bytes"] >= 62 * 4 * (4 * 8 + 4 * 8) * 4


def test_a_measured_peak_is_one_above_all_before(modules, monkeypatch):
    memory = modules.memory
    monkeypatch.setattr(memory.train_step, "make_step", lambda config, count: (None, 0, 0))
    for counts, told in (((5, 9), 9), ((9, 9), None), ((None,), None)):
        monkeypatch.setattr(memory, "in_use", iter(counts).__next__)
        assert memory.measured_peak(smoke.get_config(), lambda *inputs: 0) == told


def test_memory_knows_table_3(modules):
    shapes = {}
    for task, fields in modules.memory.TASKS.items():
        config = mnist.get_config()
        config.model.update(fields)
        shapes[task] = config.model.time_steps, sorted(modules.train_step.products(config).values())
    # Encoder: two glimpses, h_dec, h_enc. Decoder: z, h_dec. Posterior. Patch and two windows.
    assert shapes == {
        "config": (64, [(256, 35), (256, 200), (356, 1024), (520, 1024)]),
        "svhn": (32, [(800, 200), (800, 442), (900, 3200), (2464, 3200)]),
        "cifar10": (64, [(400, 85), (400, 400), (600, 1600), (950, 1600)]),
    }
