"""Fixtures of the benchmarks' tests."""

import sys
import warnings
from types import SimpleNamespace

import pytest
from absl import flags


@pytest.fixture(scope="module")
def modules():
    """Returns benchmarks that define no flag of one name; their flags end with these tests."""
    flags_before, modules_before = set(flags.FLAGS), set(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how ml_collections loads a file
        from benchmarks import (
            breakdown,
            collectives,
            compiled_for,
            measuring,
            memory,
            settings,
            start,
            train_step,
        )

    yield SimpleNamespace(
        breakdown=breakdown,
        collectives=collectives,
        compiled_for=compiled_for,
        measuring=measuring,
        memory=memory,
        settings=settings,
        start=start,
        train_step=train_step,
    )
    for name in set(flags.FLAGS) - flags_before:
        delattr(flags.FLAGS, name)
    for name in set(sys.modules) - modules_before:
        if name.startswith("benchmarks"):
            del sys.modules[name]
