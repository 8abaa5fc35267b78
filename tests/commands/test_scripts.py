"""train.py, sample.py and evaluate.py as a user runs them, on a run that train.py made."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from draw_jax.runs import export
from tests.helpers import (
    FAST_COMPILING,
    SMALL,
    assert_one_error,
    change_data,
    flip,
    forked,
    large_file,
)

TRAIN = (
    *("train.py", "--config=smoke", "--workdir=run", "--config.train.num_steps=20"),
    *("--config.train.eval_every=10",),
    *(f"--config.{name}={value}" for name, value in SMALL.items()),
)
SIZES = ("--rows=2", "--columns=2", "--scale=2")


def run_all(commands, place, **options):
    """Returns the outcomes of commands that share what they compile."""
    options = {"XLA_FLAGS": FAST_COMPILING, "XDG_CACHE_HOME": str(place / "caches")} | options
    return forked(commands, cwd=place, timeout=300, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A place with a small finished run in `run`, and what else the commands are given."""
    place = tmp_path_factory.mktemp("scripts")
    (done,) = run_all([TRAIN], place)
    assert (done.returncode, done.stderr) == (0, "")
    bare = place / "bare"  # a run whose data is not here
    bare.mkdir()
    shutil.copytree(place / "run" / "checkpoints", bare / "checkpoints")
    change_data(place / "run", bare, name="no_such_set", data_dir=str(place))
    digit = Image.new("RGB", (90, 60), (250, 250, 240))
    ImageDraw.Draw(digit).line((20, 10, 40, 10, 25, 50), fill=(20, 30, 90), width=5)
    digit.save(place / "seven.jpg")
    (place / "file").touch()
    return place


# Each a command -> its exit code and what its one line on stderr tells. They load no data.
MISTAKES = {
    ("sample.py", "--workdir=run", "--pretrained=x"): (2, "one of --workdir=DIR and --pretrained"),
    ("sample.py", "--workdir=nowhere"): (2, "--workdir: 'nowhere' is no directory"),
    ("sample.py", "--pretrained=nothing"): (1, "'nothing' is no directory and no shipped weights"),
    ("sample.py", "--workdir=run", "--kind=portrait"): (2, "or all; got 'portrait'"),
    ("sample.py", "--workdir=run", "--kind="): (2, "--kind: expected of samples, sequence, "),
    ("sample.py", "--workdir=run", "--kind=glimpses"): (2, "has samples, sequence, interpolate,"),
    ("sample.py", "--workdir=run", "--rows=0"): (2, "--rows: expected 1 to 10,000, got 0"),
    ("sample.py", "--workdir=run", "--rows=1000000"): (2, "--rows: expected 1 to 10,000, got 1000"),
    ("sample.py", "--workdir=run", "--columns=1000000"): (2, "--columns: expected 1 to 10,000"),
    ("sample.py", "--workdir=run", "--rows=200", "--columns=200"): (
        2,
        "at most 10,000 images toge",
    ),
    ("sample.py", "--workdir=run", "--scale=1000"): (2, "at a smaller scale"),
    ("sample.py", "--workdir=run", "--scale=0"): (2, "scale"),
    ("sample.py", "--workdir=run", "--seed=4294967296"): (2, "--seed: expected 0 to 4294967295"),
    ("sample.py", "--workdir=run", "--seed=-1"): (2, "--seed: expected 0 to 4294967295"),
    ("sample.py", "--workdir=run", "--kind=fix_step", "--fixed_step=9"): (2, "9"),
    ("sample.py", "--workdir=run", "--step=7"): (1, "run has no checkpoint of step 7; it has ["),
    ("sample.py", "--workdir=run", "--sede=7"): (2, "'sede'"),
    ("sample.py", "--workdir=run", "--out=file"): (1, "--out=file: that folder cannot be made"),
    ("sample.py", "--workdir=run", "--out=file/a"): (1, "--out=file/a: that folder cannot be made"),
    ("sample.py", "--workdir=run", "--image=nowhere.png"): (1, "read nowhere.png: No such file"),
    ("sample.py", "--workdir=run", "--image=file"): (1, "read file: no PNG, JPEG or WebP picture"),
    ("sample.py", "--pretrained=mnist", "--checkpoint=5"): (
        2,
        "--checkpoint: the shipped weights ",
    ),
    ("sample.py", "--pretrained=mnist", "--step=5"): (
        2,
        "--checkpoint: the shipped weights 'mnist",
    ),
    ("evaluate.py",): (2, "Give one of --workdir=DIR and --pretrained=NAME"),
    ("evaluate.py", "--workdir=run", "--split=tets"): (2, "tets"),
    ("evaluate.py", "--workdir=run", "--importance_samples=-1"): (2, "-1"),
    ("evaluate.py", "--workdir=run", "--nearest_nll=0"): (2, "--nearest_nll: expected 1 to 10,000"),
    ("evaluate.py", "--workdir=run", "--nearest_nll=10001"): (
        2,
        "--nearest_nll: expected 1 to 10,000 images, got 10001",
    ),
    ("evaluate.py", "--pretrained=cluttered_mnist", "--active_units"): (
        2,
        "--active_units: a model of config.kind 'classifier' has no latent units; leave it out",
    ),
    ("evaluate.py", "--pretrained=cluttered_mnist", "--nearest_nll=5"): (
        2,
        "--nearest_nll: a model of config.kind 'classifier' generates no images",
    ),
    ("evaluate.py", "--workdir=run", "--batch_size=0"): (
        2,
        "--batch_size: expected 1 to 1,000,000",
    ),
    ("evaluate.py", "--workdir=run", "--json=nowhere/x.json"): (
        2,
        "--json=nowhere/x.json: expected",
    ),
    ("evaluate.py", "--workdir=run", "--json=/proc/x.json"): (
        2,
        "--json=/proc/x.json: that cannot",
    ),
    ("evaluate.py", "--workdir=."): (1, "config.json"),
    ("train.py", "--config=smoke", "--workdir=."): (1, "holds no run but other files ("),
    ("train.py", "--config=smoke", "--workdir=file"): (
        1,
        "run directory file (it is a file); give ",
    ),
    ("train.py", "--config=smoke", "--workdir=/proc/x"): (1, "run directory /proc/x (No such file"),
    ("train.py", "--config=smoke", "--workdir=run"): (1, "different settings"),
}


@pytest.fixture(scope="module")
def mistakes(place):
    return dict(zip(MISTAKES, run_all(list(MISTAKES), place), strict=True))


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_a_mistake_is_an_error_and_an_exit_code(command, mistakes):
    code, told = MISTAKES[command]
    if "different settings" in told:  # which are told one a line
        assert mistakes[command].returncode == 1 and told in mistakes[command].stderr
        assert "Traceback" not in mistakes[command].stderr
    else:
        assert_one_error(mistakes[command], code, told)


def test_the_same_command_again_ends_by_naming_a_picture_that_is_there(place):
    (again,) = run_all([TRAIN], place)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("draw_jax: smoke -> run; starting JAX\n")
    path = again.stdout.strip().splitlines()[-1].split()[-1]
    assert (place / path).is_file()
    assert (place / "run" / "report.png").is_file()


def test_sample_makes_grid_and_sequence_and_repeats_by_seed(place):
    seeds = (("a", 0), ("b", 0), ("c", 1))
    runs = run_all(
        [
            ("sample.py", "--workdir=run", f"--out={out}", f"--seed={seed}", *SIZES)
            for out, seed in seeds
        ],
        place,
    )
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    pictures = ("samples.png", "samples.npz", "sequence.png", "sequence.npz", "sequence.gif")
    assert runs[0].stdout.split() == [f"a/{name}" for name in (*pictures, "sequence.webp")]
    for name in ("samples.png", "sequence.png", "sequence.gif"):
        a, b, c = ((place / out / name).read_bytes() for out in "abc")
        assert a == b and a != c


@pytest.fixture(scope="module")
def without_data(place):
    """Returns the outcomes of sample.py and evaluate.py on a run whose data is not here."""
    bare = ("--workdir=bare", "--out=bare_out")
    commands = {
        "all": ("sample.py", *bare, *SIZES, "--kind=all"),
        "nearest": ("sample.py", *bare, *SIZES, "--kind=nearest"),
        "image": ("sample.py", *bare, "--image=seven.jpg"),
        "test": ("evaluate.py", "--workdir=bare"),
        "binarized": ("evaluate.py", "--pretrained=mnist", "--data_dir=no_data"),
    }
    return dict(zip(commands, run_all(commands.values(), place), strict=True))


def test_all_kinds_without_data_are_those_that_need_none_and_reasons(without_data):
    done = without_data["all"]
    assert (done.returncode, done.stderr) == (0, "")
    *files, first, second = done.stdout.splitlines()
    assert {"bare_out/samples.png", "bare_out/interpolate.png", "bare_out/fix_step_1.png"} < {
        *files
    }
    for line, kind in ((first, "reconstruct"), (second, "nearest")):
        assert line.startswith(f"skipped {kind}, which needs the data: data set 'no_such_set' is")


@pytest.mark.parametrize("name", ["nearest", "test", "binarized"])
def test_without_data_the_advice_is_of_flags_that_there_are(without_data, name):
    done = without_data[name]
    assert done.returncode == 1 and done.stderr.startswith("error: data set ")
    flag = "--manual_dir=DIR" if name == "binarized" else "--data_dir=DIR"
    assert flag in done.stderr and "config.data" not in done.stderr


def test_a_picture_of_ones_own_needs_no_data(without_data, place):
    done = without_data["image"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["bare_out/reconstruct.png", "bare_out/reconstruct.npz"]
    with np.load(place / "bare_out" / "reconstruct.npz") as arrays:
        assert arrays["images"].shape == (1, 28, 28, 1) and arrays["images"].std() > 0.01


def test_evaluate_prints_and_writes_one_exact_pass_and_repeats_the_validation(place):
    first, second, third = run_all(
        [
            (
                "evaluate.py",
                "--workdir=run",
                "--split=test",
                "--json=a.json",
                "--nearest_nll=20",
                "--active_units",
            ),
            ("evaluate.py", "--workdir=run", "--split=test", "--batch_size=7", "--json=b.json"),
            ("evaluate.py", "--workdir=run", "--split=validation"),
        ],
        place,
    )
    for run in (first, second, third):
        assert run.returncode == 0, run.stderr
    a, b = (json.loads((place / name).read_text()) for name in ("a.json", "b.json"))
    assert a == json.loads(first.stdout.strip().splitlines()[-1])
    assert a["images"] == b["images"] == 180
    assert a["nearest_images"] == 20 and "nearest_nll" not in b
    assert 0 < a["nearest_nll"] < a["nearest_nll_max"] and a["nearest_nll_std"] > 0
    for name in ("nearest_nll", "nearest_rounded_nll"):
        assert f"  mean {a[name]:.1f}, standard deviation {a[f'{name}_std']:.1f}" in first.stdout
    assert a["latent_units"] == 4 and sum(a["active_per_step"]) == a["active_units"]
    assert f"active latent units: {a['active_units']} of 4" in first.stdout
    assert a["elbo_loss_se"] > 0
    np.testing.assert_allclose(a["elbo_loss"], a["nll"] + a["kl"], rtol=1e-6)
    # The batch size changes the order of float32 sums and nothing else.
    np.testing.assert_allclose(a["elbo_loss"], b["elbo_loss"], atol=1e-3)
    result = json.loads(third.stdout.strip().splitlines()[-1])
    lines = (place / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    best = min(row["elbo_loss"] for row in rows if row["split"] == "validation")
    np.testing.assert_allclose(result["elbo_loss"], best, atol=1e-3)  # float32 order of sums


def test_damaged_checkpoints_are_told_without_lines_of_source(place):
    shutil.copytree(place / "run", place / "damaged")
    for step in ("10", "20"):
        for item in ("average", "params"):
            flip(large_file(place / "damaged" / "checkpoints" / step / item))
    (done,) = run_all([("evaluate.py", "--workdir=damaged")], place)
    *warned, error = done.stderr.splitlines()
    assert done.returncode == 1 and len(warned) == 2
    assert all(line.startswith("warning: checkpoint ") for line in warned)
    assert error.startswith("error: ") and error.endswith(
        "damaged holds no checkpoint that can be read (of 2)"
    )


def test_an_exported_run_is_drawn_with_by_its_folder(place):
    out = "--out=exported"
    made, drawn, asked = run_all(
        [
            ("draw_jax", "export", "--workdir=run", "--out=shipped"),
            ("draw_jax", "sample", "--workdir=shipped", out, *SIZES, "--kind=samples"),
            ("draw_jax", "sample", "--workdir=shipped", out, "--checkpoint=20"),
        ],
        place,
    )
    assert (made.returncode, made.stderr) == (0, "")
    names = [line.split()[0] for line in made.stdout.splitlines()]
    assert names == [f"shipped/{name}" for name in ("card.md", "config.json", "weights.npz")]
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert (place / "exported" / "samples.png").is_file()
    assert_one_error(asked, 2, "--checkpoint: ", "one set of weights, no checkpoint 20")


def test_a_card_has_the_numbers_of_its_own_weights_alone(place):
    export_it = ("draw_jax", "export", "--workdir=run", "--out=carded")
    first, measured, again, other, kept, no_result = run_all(
        [
            export_it,
            ("evaluate.py", "--workdir=carded", "--split=validation", "--json=carded.json"),
            (*export_it, "--results=carded.json"),
            (*export_it, "--results=carded.json", "--dtype=float16"),
            (*export_it, "--dtype=float16"),
            (*export_it, "--results=run/config.json"),
        ],
        place,
    )
    assert [run.returncode for run in (first, measured, again, other, kept)] == [0, 0, 0, 2, 0]
    found, card = json.loads((place / "carded.json").read_text()), place / "carded" / "card.md"
    assert found["checkpoint"] is None and not found["first_images"]
    assert f"| {found['elbo_loss']:.2f} +- {found['elbo_loss_se']:.2f} |" in card.read_text()
    assert "Trained for 20 updates" in card.read_text()
    assert_one_error(other, 2, "carded.json is of other weights than these in float16")
    assert kept.stdout.splitlines()[-1].startswith("card.md was there and stays")
    assert_one_error(no_result, 2, "--results: run/config.json is not what")


def test_with_no_model_named_it_draws_with_mnist_and_says_so(place):
    words = ("--kind=samples", "--rows=1", "--columns=1", "--scale=1", "--out=default")
    (done,) = run_all([("sample.py", *words)], place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("drawing with the shipped weights `mnist`; ")
    assert (place / "default" / "samples.png").is_file()


def test_damaged_shipped_weights_are_one_line(place):
    shutil.copytree(export.FOLDER / "mnist", place / "pretrained" / "mnist")
    weights = place / "pretrained" / "mnist" / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:1000])
    (done,) = forked(
        [("sample.py", "--pretrained=mnist")],
        "import pathlib; from draw_jax.runs import export\n"
        "export.FOLDER = pathlib.Path('pretrained').resolve()",
        cwd=place,
    )
    assert_one_error(done, 1, "weights.npz is damaged", "install draw_jax again")


@pytest.mark.slow
def test_a_divergence_at_once_offers_nothing_that_is_not_there(place):
    fields = ("--config.train.learning_rate=1e30", "--config.train.warmup_steps=0")
    words = (*TRAIN[:2], "--workdir=diverged", *TRAIN[4:], *fields)
    for _ in range(2):  # the directory can be used again
        (done,) = run_all([words], place)
        assert_one_error(done, 4, "No checkpoint had been saved", "--workdir can be used again")
        assert "--init_from" not in done.stderr and "last good" not in done.stderr
    shutil.rmtree(place / "diverged")
