"""sample.py and evaluate.py as a user runs them, on a run that train.py made."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def script(name, *flags, cwd):
    return subprocess.run(
        [sys.executable, ROOT / name, *flags],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A place with a small finished run in `run`."""
    place = tmp_path_factory.mktemp("scripts")
    done = script(
        "train.py",
        f"--config={ROOT}/configs/smoke.py",
        "--workdir=run",
        "--config.train.num_steps=20",
        "--config.model.enc_size=16",
        cwd=place,
    )
    assert done.returncode == 0, done.stderr
    return place


def test_training_ends_by_naming_a_picture_that_is_there(trained):
    again = script(
        "train.py",
        f"--config={ROOT}/configs/smoke.py",
        "--workdir=run",
        "--config.train.num_steps=20",
        "--config.model.enc_size=16",
        cwd=trained,
    )
    assert again.returncode == 0
    path = again.stdout.strip().splitlines()[-1].split()[-1]
    assert (trained / path).is_file()
    assert (trained / "run" / "report.png").is_file()


def test_sample_makes_grid_and_sequence_and_repeats_by_seed(trained):
    sizes = ("--rows=2", "--columns=2", "--scale=2")
    runs = [
        script("sample.py", "--workdir=run", f"--out={out}", f"--seed={seed}", *sizes, cwd=trained)
        for out, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert runs[0].stdout.split() == [
        f"a/{name}"
        for name in (
            "samples.png",
            "samples.npz",
            "sequence.png",
            "sequence.npz",
            "sequence.gif",
            "sequence.webp",
        )
    ]
    for name in ("samples.png", "sequence.png", "sequence.gif"):
        a, b, c = ((trained / out / name).read_bytes() for out in "abc")
        assert a == b and a != c


def test_sample_needs_no_data_unless_the_kind_does(trained, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("config.json", "checkpoints"):
        (moved / name).symlink_to(trained / "run" / name)
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").unlink()
    config["data"] = config["data"] | {"name": "no_such_set", "data_dir": str(tmp_path)}
    (moved / "config.json").write_text(json.dumps(config))
    flags = (f"--workdir={moved}", "--rows=1", "--columns=1", "--out=moved")
    drawn = script("sample.py", *flags, "--kind=samples", cwd=trained)
    assert drawn.returncode == 0, drawn.stderr
    refused = script("sample.py", *flags, "--kind=nearest", cwd=trained)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ") and "no_such_set" in refused.stderr


def test_evaluate_prints_and_writes_one_exact_pass(trained):
    first = script("evaluate.py", "--workdir=run", "--split=test", "--json=a.json", cwd=trained)
    assert first.returncode == 0, first.stderr
    second = script(
        "evaluate.py",
        "--workdir=run",
        "--split=test",
        "--batch_size=7",
        "--json=b.json",
        cwd=trained,
    )
    assert second.returncode == 0, second.stderr
    a, b = (json.loads((trained / name).read_text()) for name in ("a.json", "b.json"))
    assert a == json.loads(first.stdout.strip().splitlines()[-1])
    assert a["images"] == b["images"] == 180
    assert a["elbo_loss_se"] > 0
    np.testing.assert_allclose(a["elbo_loss"], a["nll"] + a["kl"], rtol=1e-6)
    # The batch size changes the order of float32 sums and nothing else.
    np.testing.assert_allclose(a["elbo_loss"], b["elbo_loss"], atol=1e-3)


def test_evaluate_repeats_the_validation_line_of_the_run(trained):
    done = script("evaluate.py", "--workdir=run", "--split=validation", cwd=trained)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.strip().splitlines()[-1])
    lines = (trained / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    best = min(row["elbo_loss"] for row in rows if row["split"] == "validation")
    np.testing.assert_allclose(result["elbo_loss"], best, atol=1e-3)  # float32 order of sums


@pytest.mark.parametrize(
    ("name", "flags", "code", "named"),
    [
        ("sample.py", [], 2, "--workdir"),
        ("sample.py", ["--workdir=run", "--pretrained=x"], 2, "--pretrained"),
        ("sample.py", ["--workdir=nowhere"], 2, "nowhere"),
        ("sample.py", ["--pretrained=nothing"], 1, "nothing"),
        ("sample.py", ["--workdir=run", "--kind=portrait"], 2, "portrait"),
        ("sample.py", ["--workdir=run", "--rows=0"], 2, "rows"),
        ("sample.py", ["--workdir=run", "--kind=fix_step", "--fixed_step=9"], 2, "9"),
        ("sample.py", ["--workdir=run", "--step=7"], 1, "step 7"),
        ("sample.py", ["--workdir=run", "--sede=7"], 2, "sede"),
        ("evaluate.py", ["--workdir=run", "--split=tets"], 2, "tets"),
        ("evaluate.py", ["--workdir=run", "--importance_samples=-1"], 2, "-1"),
        ("evaluate.py", ["--workdir=."], 1, "config.json"),
    ],
)
def test_mistakes_are_one_line_that_names_them(trained, name, flags, code, named):
    done = script(name, *flags, cwd=trained)
    assert done.returncode == code
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
