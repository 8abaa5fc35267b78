"""The commands that draw the figures of docs/results.md from what runs and evaluations wrote."""

import json

import pytest

from tests.helpers import assert_one_error, forked


def write_rows(run, rows):
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Returns the folder, and what each command did in it, by name."""
    folder = tmp_path_factory.mktemp("figures")
    validation = {"step": 4, "split": "validation"}
    write_rows(
        folder / "draw",
        [
            *({"step": k, "split": "train", "elbo_loss": 90.0} for k in range(1, 122)),
            validation | {"elbo_loss": 88.611, "elbo_loss_se": 0.251},
        ],
    )
    write_rows(
        folder / "classifier",
        [
            {"step": 1, "split": "train", "error": 0.9},
            validation | {"error": 0.0497, "error_se": 0.00217},
        ],
    )
    steps = {2: [0.5, 0.1], 1: [0.6]}
    for count, rates in steps.items():
        result = {"error": rates[-1], "error_per_step": rates, "images": 200}
        result |= {"error_low": rates[-1] - 0.04, "error_high": rates[-1] + 0.05}
        (folder / f"{count}.json").write_text(json.dumps(result))
    latents = {"kl_per_step": [2.5, 0.125], "active_per_step": [3, 1]}
    latents |= {"active_units": 4, "latent_units": 10}
    (folder / "latents.json").write_text(json.dumps(latents))
    (folder / "draw.json").write_text('{"elbo_loss": 88.6}')
    (folder / "half.json").write_text("{")
    curve, glimpses, per_step = (f"benchmarks.{n}" for n in ("curve", "glimpses", "per_step"))
    commands = {
        "draw": (curve, "--workdir=draw", "--out=draw.png", "--levels=paper=80.97"),
        "classifier": (curve, "--workdir=classifier", "--out=classifier.png"),
        "glimpses": (glimpses, "--results=2.json,1.json", "--out=glimpses.png"),
        "per_step": (per_step, "--results=latents.json", "--out=per_step.png"),
        "no latents": (per_step, "--results=draw.json"),
        "twice": (glimpses, "--results=2.json,1.json,2.json"),
        "none": (glimpses,),
        "missing": (glimpses, "--results=3.json"),
        "half": (glimpses, "--results=half.json"),
        "other": (glimpses, "--results=draw.json"),
    }
    done = forked(list(commands.values()), cwd=folder)
    return folder, dict(zip(commands, done, strict=True))


def test_curves_are_of_the_metric_that_the_run_tells(ran):
    folder, done = ran
    for name, row in (("draw", "| 4 | 88.61 +- 0.25 |"), ("classifier", "| 4 | 4.97 +- 0.22 |")):
        assert done[name].returncode == 0, done[name].stderr
        assert row in done[name].stdout
        assert (folder / f"{name}.png").stat().st_size > 5_000


def test_errors_are_listed_by_the_number_of_glimpses(ran):
    folder, done = ran
    assert done["glimpses"].returncode == 0, done["glimpses"].stderr
    rows = done["glimpses"].stdout.splitlines()[2:]
    assert rows == [
        "| 1 | 60.00 | 56.00 to 65.00 | 200 |",
        "| 2 | 10.00 | 6.00 to 15.00 | 200 |",
        "glimpses.png",
    ]
    assert (folder / "glimpses.png").stat().st_size > 5_000


def test_the_kl_of_each_step_stands_beside_its_active_units(ran):
    folder, done = ran
    assert done["per_step"].returncode == 0, done["per_step"].stderr
    assert done["per_step"].stdout.splitlines() == [
        *("latents: 4 of 10 latent units active", ""),
        *("| time step | KL, nats | active of 5 |", "|---|---|---|"),
        *("| 1 | 2.500 | 3 |", "| 2 | 0.125 | 1 |", "", "per_step.png"),
    ]
    assert (folder / "per_step.png").stat().st_size > 5_000


def test_what_is_no_result_is_told_in_one_line(ran):
    _, done = ran
    for name, told in {
        "twice": "--results: expected one of each number of glimpses, got two of 2",
        "none": "--results: expected files",
        "missing": "--results: cannot read 3.json",
        "half": "half.json is no JSON",
        "other": "draw.json is not of a classifier",
        "no latents": "draw.json is not of evaluate.py --active_units --json",
    }.items():
        assert_one_error(done[name], 2, told)
