"""Whole runs in processes of their own: started, watched and compared."""

import json
import os
import subprocess
import sys

import numpy as np
import orbax.checkpoint as ocp
import pytest

from draw_jax.runs import digests
from draw_jax.runs.metrics import MetricsFile
from tests.helpers import ROOT, SMALL, small_config

RUN = {
    "train.num_steps": 24,
    "train.log_every": 1,
    "train.eval_every": 8,
    "train.checkpoint_every": 3,
}
# What a process does to itself, exactly where the argument says: after it has written a line of
# metrics ("line STEP SPLIT SIGNAL"), or when it has begun to save ("save STEP SIGNAL").
DRIVER = """
import os, resource, runpy, signal, sys, time
from draw_jax.runs import checkpoint, metrics

what, *where = sys.argv.pop(1).split()
write, save = metrics.MetricsFile.write, checkpoint.Checkpoints.save

def write_and_act(self, row):
    write(self, row)
    if what == "line" and [str(row["step"]), row["split"]] == where[:2]:
        os.kill(os.getpid(), int(where[2]))
    if what == "full" and row["step"] == int(where[0]):  # as a full disk: no file may grow
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

def save_and_act(self, step, *rest):
    if what == "hang":
        time.sleep(120)
    save(self, step, *rest)
    if what == "save" and step == int(where[0]):
        os.kill(os.getpid(), int(where[1]))

metrics.MetricsFile.write, checkpoint.Checkpoints.save = write_and_act, save_and_act
sys.path.insert(0, "")
runpy.run_path("train.py", run_name="__main__")
"""


def command(run, fields=None, *flags):
    values = SMALL | RUN | (fields or {})
    return [
        "train.py",
        "--config=configs/smoke.py",
        f"--workdir={run}",
        *(f"--config.{name}={value}" for name, value in values.items()),
        *flags,
    ]


def start(run, fields=None, *flags, driver=None, **environment):
    begin = ["-c", DRIVER, driver] if driver else []
    return subprocess.Popen(
        [sys.executable, *begin, *command(run, fields, *flags)[bool(driver) :]],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


def small(**fields):
    return small_config(**RUN | fields)


def rows(run):
    """Returns the lines of metrics.jsonl, every one of which must be whole."""
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row, sound = digests.verified(json.loads(line))
        assert sound
        found.append(row)
    return found


def rows_so_far(run):
    return MetricsFile(run / "metrics.jsonl").rows()


def timeless(row):
    return {name: value for name, value in row.items() if name != "images_per_second"}


def steps(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def arrays(run, step):
    with ocp.CheckpointManager(run.resolve() / "checkpoints") as manager:
        names = ("params", "average", "optimizer")
        args = {name: ocp.args.PyTreeRestore() for name in names}
        restored = manager.restore(step, args=ocp.args.Composite(**args))
        return {
            f"{name}/{key}": np.asarray(a) for name in names for key, a in restored[name].items()
        }


def files(run):
    return {p.relative_to(run): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


def assert_same_run(run, whole):
    assert [timeless(row) for row in rows(run)] == [timeless(row) for row in rows(whole)]
    ours, theirs = arrays(run, 24), arrays(whole, 24)
    assert set(ours) == set(theirs) and len(ours) > 40
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def assert_close_rows(ours, theirs):
    assert [(row["step"], row["split"]) for row in ours] == [
        (row["step"], row["split"]) for row in theirs
    ]
    for row, other in zip(ours, theirs, strict=True):
        for name in ("nll", "elbo_loss"):
            # Sums over the batch are made in another order; 24 updates carry that on.
            assert row[name] == pytest.approx(other[name], rel=1e-4), (row["step"], name)
