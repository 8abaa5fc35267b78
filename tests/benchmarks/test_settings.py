"""A training step under several settings."""

import os
import subprocess
import sys

import pytest
from absl import flags

from configs import smoke
from tests.helpers import ROOT


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_a_failing_setting_says_why_and_the_next_one_runs(modules, monkeypatch):
    settings, run = modules.settings, subprocess.run
    broken = settings.Setting({"model.dtype": "float7"})
    monkeypatch.chdir(ROOT)
    flags.FLAGS(["settings", "--config=configs/smoke.py"])
    monkeypatch.setattr(settings, "SETTINGS", {"a": broken, "b": settings.Setting({})})
    asked = []

    def run_the_broken(command, **options):
        asked.append(command)
        return run(command if len(asked) == 1 else ["false"], **options)

    monkeypatch.setattr(settings.subprocess, "run", run_the_broken)
    rows = list(settings.rows(["a", "b"], (4,)))
    flags.FLAGS.unparse_flags()
    assert rows == [
        {"batch": 4, "setting": "a", "error": "expected dtype float32 or bfloat16, got 'float7'"},
        {"batch": 4, "setting": "b", "error": "exit code 1"},
    ]
    assert "--config.model.dtype=float7" in asked[0]
    for command in asked:
        assert "--config=configs/smoke.py" in command and "--config.train.batch_size=4" in command


def test_a_setting_of_a_field_that_is_not_there_is_left_out(modules):
    missing = modules.settings.Setting({"model.no_such_field": 2})
    told = modules.settings.obstacle(missing, smoke.get_config(), "cpu")
    assert told == "no config.model.no_such_field"


def test_settings_pass_on_flags_and_keep_the_users_own(modules, monkeypatch):
    settings = modules.settings.SETTINGS
    monkeypatch.setenv("XLA_FLAGS", "--mine=1")
    assert modules.settings.environment(settings["default"]) == dict(os.environ)
    graphs = modules.settings.environment(settings["while_graphs"])
    assert graphs["XLA_FLAGS"] == "--mine=1 --xla_gpu_enable_command_buffer=+WHILE"
    pages = modules.settings.environment(settings["small_pages"])
    assert pages["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"
    highest = modules.settings.environment(settings["highest"])
    assert highest["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert modules.settings.obstacle(settings["while_graphs"], smoke.get_config(), "cpu")
    assert not modules.settings.obstacle(settings["while_graphs"], smoke.get_config(), "gpu")


@pytest.mark.parametrize("typing_error", [False, True])
def test_the_installed_xla_knows_the_flags_of_the_settings(typing_error, modules):
    """Flags for GPUs are parsed on every machine; those it does not know end the process."""
    xla = " ".join(setting.xla for setting in modules.settings.SETTINGS.values())
    assert xla.count("command_buffer") >= 4
    done = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": xla.replace("WHILE", "WHIEL") if typing_error else xla},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode == 0) != typing_error, done.stderr.decode()
