"""The commands that draw the figures of docs/results.md from what runs and evaluations wrote."""

import json

import numpy as np
import pytest

from tests.benchmarks.conftest import imported
from tests.helpers import assert_one_error, forked

PUBLISHED = "DRAW (paper)=330000:5071.4,20000:5117.5"


@pytest.fixture(scope="module")
def curve():
    with imported("curve") as found:
        yield found.curve


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
    write_rows(
        folder / "bits",
        [
            {"step": 1, "split": "train", "elbo_loss": 9000.0, "bits_per_dim": 4.2268},
            validation
            | {"elbo_loss": 8000.0, "elbo_loss_se": 9.0}
            | {"bits_per_dim": 3.75714, "bits_per_dim_se": 0.00423},
            {"step": 4, "split": "rollback", "count": 1, "rate": 0.5},
        ],
    )
    images = {"data": "mnist", "split": "test", "images": 2000}
    steps = {2: [0.5, 0.1], 1: [0.6]}
    for count, rates in steps.items():
        result = images | {"error": rates[-1], "error_per_step": rates}
        result |= {"error_low": rates[-1] - 0.04, "error_high": rates[-1] + 0.05}
        (folder / f"{count}.json").write_text(json.dumps(result))
    latents = {"kl_per_step": [2.5, 0.125], "active_per_step": [3, 1]}
    latents |= images | {"active_units": 4, "latent_units": 10}
    (folder / "latents.json").write_text(json.dumps(latents))
    (folder / "again").mkdir()
    (folder / "again" / "latents.json").write_text(json.dumps(latents))
    seen = {"split": "validation", "images": 2000, "data": "mnist"}
    (folder / "seen.json").write_text(json.dumps(latents | seen))
    (folder / "seen_2.json").write_text(json.dumps(result | seen | {"error_per_step": [0.1]}))
    (folder / "draw.json").write_text('{"elbo_loss": 88.6}')
    (folder / "half.json").write_text("{")
    curve, glimpses, per_step = (f"benchmarks.{n}" for n in ("curve", "glimpses", "per_step"))
    commands = {
        "draw": (
            curve,
            "--workdir=draw",
            "--out=draw.png",
            "--levels=paper=80.97",
            f"--points={PUBLISHED}",
        ),
        "classifier": (curve, "--workdir=classifier", "--out=classifier.png"),
        "bits": (curve, "--workdir=bits", "--out=bits.png", "--levels=DRAW=4.13,VAE=3.58"),
        **{
            f"{flag}={value}": (curve, "--workdir=draw", f"--{flag}={value}")
            for flag, values in {
                "levels": ("paper", "=1", "paper=low", "paper=nan"),
                "points": (
                    "paper",
                    "=1:2",
                    "paper=1:2,3",
                    "paper=1:low",
                    "paper=1:2:3",
                    "",
                    "a=1:nan",
                ),
            }.items()
            for value in values
        },
        "settled": (curve, "--workdir=draw", "--settled=4"),
        "taken": (curve, "--workdir=draw", "--points=paper=1:2", "--points=paper=1:2"),
        "glimpses": (glimpses, "--results=2.json,1.json", "--out=glimpses.png"),
        "per_step": (per_step, "--results=latents.json", "--out=per_step.png"),
        "one name": (per_step, "--results=latents.json,again/latents.json"),
        "no latents": (per_step, "--results=draw.json"),
        "two splits": (per_step, "--results=latents.json,seen.json"),
        "also two": (glimpses, "--results=2.json,seen_2.json"),
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
    for name, unit, row in (
        ("draw", "negative ELBO, nats per image", "| 4 | 88.61 +- 0.25 |"),
        ("classifier", "error, %", "| 4 | 4.97 +- 0.22 |"),
        ("bits", "bits per dimension", "| 4 | 3.757 +- 0.004 |"),
    ):
        assert done[name].returncode == 0, done[name].stderr
        head, _, *told = done[name].stdout.splitlines()
        assert head == f"| update | validation: {unit} |" and told == [row, f"{name}.png"]
        assert (folder / f"{name}.png").stat().st_size > 5_000


@pytest.mark.parametrize("count", [41, 80, 121])
def test_training_is_drawn_as_forty_means_of_neighbours(count, curve):
    values = np.random.default_rng(count).normal(90, 9, count)
    rows = [{"step": 5 * k, "split": "train", "error": v} for k, v in enumerate(values, start=1)]
    validation = {"step": 7, "split": "validation", "error": 0.25}
    drawn = curve.of_run([*rows, validation], "error", 100.0)
    (name, (steps, means)), (_, other) = drawn.items()
    assert other == ((7,), (25.0,))
    least, longer = divmod(count, 40)  # so many groups are longer by one, and come first
    expected, k = [], 0
    for group in range(40):
        size = least + (group < longer)
        step = value = 0.0
        for _ in range(size):
            step += 5 * (k + 1) / size
            value += 100 * values[k] / size
            k += 1
        expected.append((step, value))
    assert k == count and len(steps) == 40
    np.testing.assert_allclose(np.transpose([steps, means]), expected, rtol=1e-12)
    told = f"{least} or {least + 1}" if longer else f"{least}"
    assert name == f"train, means of {told} batches"


def test_a_few_training_lines_are_drawn_as_they_are(curve):
    rows = [{"step": k, "split": "train", "elbo_loss": float(k * k)} for k in range(1, 41)]
    ((name, (steps, values)),) = curve.of_run(rows, "elbo_loss", 1.0).items()
    assert name == "train" and steps == tuple(range(1, 41))
    assert values == tuple(float(k * k) for k in steps)


def test_how_much_the_curves_changed_over_the_last_updates(curve):
    rows = [{"step": 3, "split": "rollback", "count": 1}]
    # Means of the last two of ten updates: 55 at update 10, 44 at update 20.
    train = {8: 1e6, 9: 50.0, 10: 60.0, 18: 1e6, 19: 43.0, 20: 45.0, 21: 1e6}
    rows += [{"step": k, "split": "train", "elbo_loss": v} for k, v in train.items()]
    losses = {5: 90.0, 10: 80.0, 15: 70.0, 20: 79.0}
    rows += [{"step": k, "split": "validation", "elbo_loss": v} for k, v in losses.items()]
    assert (
        curve.settled(rows, "elbo_loss", 10)
        == [
            "training, means of 2 updates: -20.00 +- 7.50 % from update 10 to 20",  # hypot(5 * 44 / 55, 1) / 55
            "validation: -1.25 % from update 10 to 20",
        ]
    )
    with pytest.raises(ValueError, match="got 7; it was at 5, 10, 15, 20"):
        curve.settled(rows, "elbo_loss", 7)
    none = [row | {"elbo_loss": 0.0} for row in rows]
    assert curve.settled(none, "elbo_loss", 10)[1] == "validation: 0 to 0 from update 10 to 20"
    with pytest.raises(ValueError, match="near update 5"):
        curve.settled(rows, "elbo_loss", 15)


def test_a_published_curve_is_one_line_in_the_order_of_its_updates(ran, curve, monkeypatch, capsys):
    folder, _ = ran
    drawn = {}
    monkeypatch.setattr(curve.curves, "curves", lambda series, path, **more: drawn.update(series))
    words = (f"--workdir={folder / 'draw'}", f"--points={PUBLISHED}", "--points=a=b=1:2")
    curve.flags.FLAGS(["curve", *words])
    assert curve.main() == 0
    curve.flags.FLAGS.unparse_flags()
    assert drawn["DRAW (paper)"] == ([20_000, 330_000], [5117.5, 5071.4])
    assert drawn["a=b"] == ([1], [2])
    assert list(drawn) == ["train, means of 3 or 4 batches", "validation", "DRAW (paper)", "a=b"]
    assert "| 4 | 88.61 +- 0.25 |" in capsys.readouterr().out


def test_errors_are_listed_by_the_number_of_glimpses(ran):
    folder, done = ran
    assert done["glimpses"].returncode == 0, done["glimpses"].stderr
    first, _, _, _, *rows = done["glimpses"].stdout.splitlines()
    assert first == "mnist, test, 2,000 images"
    assert rows == [
        "| 1 | 60.00 | 56.00 to 65.00 |",
        "| 2 | 10.00 | 6.00 to 15.00 |",
        "glimpses.png",
    ]
    assert (folder / "glimpses.png").stat().st_size > 5_000


def test_the_kl_of_each_step_stands_beside_its_active_units(ran):
    folder, done = ran
    assert done["per_step"].returncode == 0, done["per_step"].stderr
    assert done["per_step"].stdout.splitlines() == [
        *("mnist, test, 2,000 images", ""),
        *("latents: 4 of 10 latent units active", ""),
        *("| time step | KL, nats | active of 5 |", "|---|---|---|"),
        *("| 1 | 2.500 | 3 |", "| 2 | 0.125 | 1 |", "", "per_step.png"),
    ]
    assert (folder / "per_step.png").stat().st_size > 5_000


def test_what_is_no_result_is_told_in_one_line(ran):
    _, done = ran
    for name, run in done.items():
        flag, _, value = name.partition("=")
        if flag in ("levels", "points"):
            form = "name=value" if flag == "levels" else "name=update:value,update:value"
            assert_one_error(run, 2, f"--{flag}: expected {form}, got {value!r}")
    for name, told in {
        "settled": "--settled: expected updates between the last validation and another, got 4",
        "taken": "--points: the name 'paper' is taken",
        "twice": "--results: expected one of each number of glimpses, got two of 2",
        "none": "--results: expected files",
        "missing": "--results: cannot read 3.json",
        "half": "half.json is no JSON",
        "other": "draw.json is not of a classifier",
        "two splits": "expected files of the same split, got test in latents.json and validation in seen",
        "also two": "expected files of the same split, got test in 2.json and validation in seen_2",
        "one name": "--results: expected files of different names, which name the models",
        "no latents": "draw.json is not of evaluate.py --active_units --json",
    }.items():
        assert_one_error(done[name], 2, told)
