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
    """Gives benchmarks that define no flag of one name; their flags end with the block.

    Until then those of benchmarks that other tests import for good stand aside.
    """
    owners = {name: flags.FLAGS.find_module_defining_flag(name) for name in flags.FLAGS}
    aside = {
        name: (flags.FLAGS[name], owner)
        for name, owner in owners.items()
        if owner and owner.startswith("benchmarks.") and owner != "benchmarks.measuring"
    }
    for name in aside:
        delattr(flags.FLAGS, name)
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
            package, _, module = name.rpartition(".")
            if hasattr(sys.modules.get(package), module):  # else `from benchmarks import` finds it
                delattr(sys.modules[package], module)
    for name, (flag, owner) in aside.items():
        flags.FLAGS[name] = flag
        flags.FLAGS.register_flag_by_module(owner, flag)


@pytest.fixture(scope="module")
def modules():
    """Returns most of the benchmarks."""
    names = (
        *("breakdown", "collectives", "compiled_for", "measuring", "memory", "operations"),
        *("settings", "start", "train_step"),
    )
    with imported(*names) as found:
        yield found
