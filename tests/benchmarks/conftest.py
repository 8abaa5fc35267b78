"""Fixtures of the benchmarks' tests."""

import contextlib
import importlib
import sys
import warnings
from types import SimpleNamespace

import pytest
from absl import flags


@contextlib.contextmanager
def imported(*names):
    """Gives benchmarks that define no flag of one name; their flags end with the block."""
    flags_before, modules_before = set(flags.FLAGS), set(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how ml_collections loads a file
        found = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    yield SimpleNamespace(**found)
    for name in set(flags.FLAGS) - flags_before:
        delattr(flags.FLAGS, name)
    for name in set(sys.modules) - modules_before:
        if name.startswith("benchmarks"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def modules():
    """Returns most of the benchmarks."""
    names = (
        *("breakdown", "collectives", "compiled_for", "measuring", "memory", "operations"),
        *("settings", "start", "train_step"),
    )
    with imported(*names) as found:
        yield found
