import shutil
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import tests
from tests.training.whole_runs import start


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Lets whole runs, in whichever process, share what XLA has compiled, and not for long."""
    folder = tmp_path_factory.getbasetemp() / "compiled"
    values = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in values}
    with pytest.MonkeyPatch.context() as patch:
        if not tests.OPTIMIZED:  # or a run that goes on in another process would not be the same
            patch.setenv("XLA_FLAGS", tests.OUR_FLAGS)
        for name, value in values.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def _whole(tmp_path_factory):
    made = tmp_path_factory.mktemp("whole") / "run"

    def run():
        if not made.exists():
            process = start(made)
            output, errors = process.communicate(timeout=300)
            assert (process.returncode, errors) == (0, ""), output + errors
        return made

    return run


@pytest.fixture
def whole(_whole, compiled_once):
    """Returns the directory of a run that nothing interrupted."""
    return _whole()


@pytest.fixture
def copy(whole, tmp_path):
    """Returns a copy of the whole run, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "run"))
