"""The files of launch/, as far as can be tried without a cluster: stand-ins take the commands' places."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"


@pytest.fixture
def stand_in(tmp_path):
    """Returns make(name, script): a command that runs a script and notes its words in NAME.log."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, script=""):
        file = folder / name
        file.write_text(f'#!/bin/bash\necho "$*" >> "{tmp_path}/{name}.log"\n{script}\n')
        file.chmod(0o755)

    make.environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return make


def words(tmp_path, name):
    file = tmp_path / f"{name}.log"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_sound_and_may_be_run(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if shellcheck := shutil.which("shellcheck", path=places):
        done = subprocess.run([shellcheck, script], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 143])
def test_slurm_puts_back_what_was_stopped_and_nothing_else(stand_in, tmp_path, code, nodes):
    stand_in("srun", f"exit {code}")
    stand_in("scontrol")
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": f"{nodes}", "DRAW_JAX_VENV": "/venv"}
    done = subprocess.run(
        [LAUNCH / "slurm.sh", "--config=mnist", "--workdir=/a place/run"],
        check=False,
        env=stand_in.environment | variables,
    )
    assert done.returncode == code
    distributed = " --distributed" if nodes > 1 else ""
    (asked,) = words(tmp_path, "srun")
    program = f"/venv/bin/draw-jax train{distributed} --config=mnist --workdir=/a place/run"
    assert asked.endswith(program)
    assert words(tmp_path, "scontrol") == (["requeue 7"] if code in (3, 143) else [])


def test_slurm_waits_for_the_processes_that_a_signal_stops(stand_in, tmp_path):
    stand_in(
        "srun",
        'trap "sleep 0.5; exit 3" TERM\ntouch started\nfor k in {1..100}; do sleep 0.1; done',
    )
    stand_in("scontrol")
    process = subprocess.Popen(
        [LAUNCH / "slurm.sh", "--config=mnist"],
        env=stand_in.environment | {"SLURM_JOB_ID": "7"},
        cwd=tmp_path,
        start_new_session=True,
    )
    for _ in range(1_500):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.02)
    assert (tmp_path / "started").exists()
    os.killpg(process.pid, signal.SIGTERM)  # the shell and its process, as Slurm does
    assert process.wait(timeout=20) == 3
    assert words(tmp_path, "scontrol") == ["requeue 7"]


def test_the_slurm_script_leaves_time_to_save():
    directives = re.findall(r"^#SBATCH (\S+)", (LAUNCH / "slurm.sh").read_text(), re.MULTILINE)
    assert "--requeue" in directives and "--open-mode=append" in directives
    (seconds,) = [int(d.partition("@")[2]) for d in directives if d.startswith("--signal=TERM@")]
    assert seconds >= 60


# Keeps the state of a queued resource in a file; a new one waits once, and is then what `given` says.
GCLOUD = """
case "$*" in
*describe*) cat state; if [ "$(cat state)" = WAITING ]; then cat given > state; fi;;
*create*) echo WAITING > state;;
*delete*) rm state;;
esac
"""


def test_a_tpu_is_asked_for_once_and_trains_on_all_hosts(stand_in, tmp_path):
    stand_in("gcloud", GCLOUD)
    (tmp_path / "given").write_text("ACTIVE")
    variables = {"PROJECT": "p", "ZONE": "z", "REPOSITORY": "git+file:///clone"}
    variables["POLL_SECONDS"] = "0"
    for _ in range(2):
        subprocess.run(
            [LAUNCH / "tpu_vm.sh", "--config=mnist", "--workdir=/a place/run"],
            check=True,
            env=stand_in.environment | variables,
            cwd=tmp_path,
        )
    asked = words(tmp_path, "gcloud")
    assert len([line for line in asked if " create " in line]) == 1
    trained = [line for line in asked if "draw-jax train" in line]
    assert len(trained) == 2 and "--worker=all" in trained[0]
    assert r"train --distributed --config=mnist --workdir=/a\ place/run" in trained[0]
    assert all("--project=p --zone=z" in line for line in asked)


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_a_tpu_that_was_taken_away_is_asked_for_again(stand_in, tmp_path, state):
    stand_in("gcloud", GCLOUD)
    (tmp_path / "state").write_text(state)
    (tmp_path / "given").write_text(state)
    variables = {"PROJECT": "p", "ZONE": "z", "REPOSITORY": "r", "POLL_SECONDS": "0"}

    def run():
        return subprocess.run(
            [LAUNCH / "tpu_vm.sh", "--config=mnist"],
            check=False,
            env=stand_in.environment | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
        )

    done = run()  # it is taken away once more
    assert done.returncode == 1 and "the same command asks for it again" in done.stderr
    (tmp_path / "given").write_text("ACTIVE")
    assert run().returncode == 0
    asked = words(tmp_path, "gcloud")
    kinds = ["delete" if " delete " in a else "create" if " create " in a else "" for a in asked]
    assert [kind for kind in kinds if kind] == ["delete", "create"] * 2
    assert sum("draw-jax train" in line for line in asked) == 1


@pytest.mark.parametrize("missing", ["PROJECT", "ZONE", "REPOSITORY"])
def test_a_tpu_needs_a_project_a_zone_and_a_repository(stand_in, tmp_path, missing):
    stand_in("gcloud")
    variables = {"PROJECT": "p", "ZONE": "z", "REPOSITORY": "r"}
    del variables[missing]
    done = subprocess.run(
        [LAUNCH / "tpu_vm.sh"],
        check=False,
        env=stand_in.environment | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and f"{missing}: set {missing}" in done.stderr
    assert words(tmp_path, "gcloud") == []


def test_the_job_set_counts_its_processes_alike():
    job_set = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    assert (job_set["apiVersion"], job_set["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = job_set["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    variables = {v["name"]: v.get("value") for v in container["env"]}
    assert job["parallelism"] == job["completions"] == int(variables["JAX_NUM_PROCESSES"])
    # The first pod's name, by JobSet's rule: set-job-replica-index, under the set's own domain.
    name, job_name = job_set["metadata"]["name"], replicated["name"]
    assert variables["JAX_COORDINATOR_ADDRESS"] == f"{name}-{job_name}-0-0.{name}:12355"
    assert {"train", "--distributed"} <= set(container["args"])
    # 3 is stopped and saved, and 1 may be of a lost machine: no reasons to give up.
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2, 4]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] >= 60


def test_the_container_holds_what_the_package_is_built_of():
    text = (LAUNCH / "Containerfile").read_text()
    copied = {
        word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()
    }
    assert {"pyproject.toml", "README.md", "configs", "draw_jax"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    assert re.search(r'^ENTRYPOINT \["draw-jax"\]$', text, re.MULTILINE)
