"""The table of several runs: what differs, what the weights for use are worth, what is refused."""

import json
import math

import jax
import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.evaluation import passes
from draw_jax.model import build
from draw_jax.runs import checkpoint, directory
from draw_jax.runs.metrics import MetricsFile
from tests.benchmarks.conftest import imported
from tests.helpers import NO_ATTENTION, SMALL_CLASSIFIER, classifier_config, small_config

FIELDS = NO_ATTENTION | {"data.binarization": "dynamic", "train.batch_size": 30}
LOSSES = {4: 70.0, 8: 80.0}  # on validation: the first checkpoint is the best


@pytest.fixture(scope="module")
def recipes():
    with imported("recipes") as found:
        found.recipes.flags.FLAGS(["recipes"])
        yield found.recipes


@pytest.fixture
def command(recipes):
    """Returns run(*flags) -> the exit code."""
    yield lambda *words: (recipes.flags.FLAGS(["recipes", *map(str, words)]), recipes.main())[1]
    for name in ("workdirs", "images", "data_dir", "json", "raw"):
        recipes.flags.FLAGS[name].unparse()


def weights(config, seed):
    """Returns the parameters of a configuration's model, random in every leaf."""
    model, rng = build.build(config), np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda key: build.initial_variables(model, key), jax.random.key(0))
    return jax.tree.map(
        lambda leaf: 0.1 * rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes["params"]
    )


def write(run, config, losses=None, speeds=(1.0, 120.0, 60.0, 90.0)):
    """Writes a run directory; with losses of validation by step, checkpoints of random weights."""
    run.mkdir()
    directory.write_config(run, config)
    metrics = MetricsFile(run / "metrics.jsonl")
    for step, speed in enumerate(speeds, start=1):
        metrics.write({"step": step, "split": "train", "images_per_second": speed})
    if losses is None:  # of which only the name is looked at
        (run / "checkpoints" / "8").mkdir(parents=True)
        return run
    checkpoints = checkpoint.Checkpoints(run / "checkpoints", 2, config=config)
    for step, loss in losses.items():
        metrics.write({"step": step, "split": "validation", "elbo_loss": loss})
        items = {"params": weights(config, 100 + step), "average": weights(config, step)}
        checkpoints.save(step, items, loss)
    checkpoints.close()
    return run


def loss_of(config, params, split, count, prepare):
    """Returns the negative ELBO of the first images of a split and its standard error."""
    images = splits.load(config.data, split).batch(np.arange(count)).images
    result = passes.evaluate(
        build.task(build.build(config)),
        {"params": params},
        ArraySplit(images, None, False),
        prepare,
        build.keys(config.seed).evaluate,
    )
    return result["elbo_loss"], result["elbo_loss_se"]


def test_a_row_tells_what_differs_and_what_the_weights_for_use_are_worth(
    command, tmp_path, capsys, monkeypatch
):
    configs = [small_config(**FIELDS), small_config(**FIELDS, seed=3)]
    with configs[1].unlocked():
        configs[1].data.manual_dir = "elsewhere"
        configs[1].train.learning_rate = 5e-3
    runs = [write(tmp_path / name, c, LOSSES) for name, c in zip("ab", configs, strict=True)]
    file = tmp_path / "figures.json"
    evaluate, prepares = passes.evaluate, []  # the same function compiles once
    monkeypatch.setattr(
        passes, "evaluate", lambda *a, **k: (prepares.append(a[3]), evaluate(*a, **k))[1]
    )
    assert command(f"--workdirs={runs[0]},{runs[1]}", "--images=30", f"--json={file}") == 0
    prepare = prepares[0]
    image, key = np.full((28, 28, 1), 99, np.uint8), jax.random.key(1)
    assert set(prepares) == {prepare}
    np.testing.assert_array_equal(prepare(image, key), splits.prepare(image, "dynamic", key))
    figures = json.loads(file.read_text())
    assert figures["images"] == {"validation": 30, "train": 30}
    assert [row["changed"] for row in figures["rows"]] == [
        {},
        {"seed": 3, "train.learning_rate": 5e-3},
    ]
    lines = capsys.readouterr().out.splitlines()
    for line, row, config in zip(lines[2:4], figures["rows"], configs, strict=True):
        assert (row["updates"], row["checkpoint"]) == (8, 4)
        assert row["minutes"] == pytest.approx(8 * 30 / 75 / 60)  # of 1, 60, 90 and 120 a second
        told = {}
        for split in ("validation", "train"):
            told[split], told[f"{split}_se"] = loss_of(
                config, weights(config, 4), split, 30, prepare
            )
            assert row[split] == pytest.approx(told[split], rel=1e-6)
            assert row[f"{split}_se"] == pytest.approx(told[f"{split}_se"], rel=1e-4)
        assert told["validation"] != told["train"]
        assert row["gap"] == pytest.approx(told["validation"] - told["train"], rel=1e-3)
        assert row["gap_se"] == pytest.approx(
            math.sqrt(told["validation_se"] ** 2 + told["train_se"] ** 2), rel=1e-4
        )
        shown = [
            f"{row[n]:{s}.2f} +- {row[f'{n}_se']:.2f}" for n, s in (("train", ""), ("gap", "+"))
        ]
        assert line.split(" | ")[-2:] == [shown[0], f"{shown[1]} |"]
    assert lines[2].startswith("| none ") and " 8 |  0.0533 |                 4 |" in lines[2]
    assert lines[3].startswith("| `seed=3`, `train.learning_rate=0.005` |")
    assert lines[-1].endswith("of the first 30 images of validation and 30 of training")

    assert command(f"--workdirs={runs[0]}", "--images=30", f"--json={file}", "--raw") == 0
    ((raw,), config) = json.loads(file.read_text())["rows"], configs[0]
    told = loss_of(config, weights(config, 104), "validation", 30, prepare)
    assert (raw["validation"], raw["checkpoint"]) == (pytest.approx(told[0], rel=1e-6), 4)
    assert capsys.readouterr().out.endswith("and 30 of training, without the EMA\n")


def test_all_of_validation_and_as_many_training_images_are_measured(recipes, tmp_path):
    config = small_config(**FIELDS)
    run = recipes.read(write(tmp_path / "run", config))
    for most, expected in ((None, (180, 180)), (200, (180, 200)), (7, (7, 7))):
        images = recipes.load([run], most)
        assert tuple(images[name][1] for name in ("validation", "train")) == expected
        assert len(images["train"][0]) == 1_437


def test_minutes_that_no_line_tells_are_a_dash(recipes, tmp_path):
    run = recipes.read(write(tmp_path / "run", small_config(**FIELDS), speeds=()))
    assert recipes.minutes(run) is None
    told = dict.fromkeys(("validation", "train", "gap"), 1.0) | {"changed": {}, "updates": 8}
    told |= {f"{name}_se": 0.1 for name in ("validation", "train", "gap")} | {"checkpoint": 4}
    loss = "1.00 +- 0.10"
    expected = ["none", "8", "-", "4", loss, loss, f"+{loss}"]
    assert recipes.row(told | {"minutes": None}) == expected


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"data.binarization": "none"}, "the same config.data.binarization, got 'dynamic' in "),
        ({"data.name": "mnist"}, "the same config.data.name, got 'digits' in "),
        (
            {"data.grey": True, "data.name": "cifar10"},
            "the same config.data.grey, got False in ",
        ),
        (
            {"model.image_shape": (28, 28, 3)},
            r"the same config.model.image_shape, got \[28, 28, 1\]",
        ),
    ],
)
def test_runs_of_other_images_are_refused(command, tmp_path, fields, told):
    runs = [write(tmp_path / "a", small_config(**FIELDS))]
    runs.append(write(tmp_path / "b", small_config(**FIELDS | fields)))
    with pytest.raises(ValueError, match=f"^--workdirs: expected runs of.* {told}") as caught:
        command(f"--workdirs={runs[0]},{runs[1]}")
    assert "\n" not in str(caught.value)
    assert all(str(run) in str(caught.value) for run in runs)


def test_other_likelihoods_and_other_updates_are_refused(command, tmp_path):
    fields = FIELDS | {"data.binarization": "none"}
    logistic = small_config(
        **fields, **{"model.likelihood": "discretized_logistic", "model.canvas_bias": 0.3}
    )
    first = write(tmp_path / "a", small_config(**fields))
    other = write(tmp_path / "b", logistic)
    with pytest.raises(ValueError, match="the same config.model.likelihood, got 'bernoulli' in"):
        command(f"--workdirs={first},{other}")
    longer = write(tmp_path / "c", small_config(**fields))
    (longer / "checkpoints" / "12").mkdir()
    with pytest.raises(ValueError, match="the same updates done, got 8 in .*/a and 12 in .*/c$"):
        command(f"--workdirs={first},{longer}")


def test_where_data_lies_is_no_difference_unless_it_is_the_data(recipes, tmp_path):
    for name, same in (("mnist", True), ("image_folder", False), ("npz", False)):
        runs = []
        for place in ("here", "there"):
            config = small_config(**{"data.name": name, "data.data_dir": place})
            runs.append(recipes.read(write(tmp_path / f"{name}_{place}", config)))
        assert recipes.changed(*runs) == {}
        if same:
            recipes.check_alike(*runs)
            continue
        with pytest.raises(ValueError, match="the same config.data.data_dir, got 'here' in"):
            recipes.check_alike(*runs)


def test_what_cannot_be_measured_is_told(command, tmp_path):
    classifier = write(tmp_path / "classifier", classifier_config())
    endless = {name: SMALL_CLASSIFIER[name] for name in ("data.source", "data.size")}
    config = small_config(**FIELDS).unlock()
    config.data.update(
        {k.removeprefix("data."): v for k, v in endless.items()} | {"name": "two_digits"}
    )
    two_digits = write(tmp_path / "two_digits", config)
    begun = write(tmp_path / "begun", small_config(**FIELDS))
    (begun / "checkpoints" / "8").rmdir()
    for run, error, told in (
        (classifier, ValueError, "is of config.kind 'classifier', which has no negative ELBO"),
        (two_digits, ValueError, "images of data set 'two_digits' have no end"),
        (begun, RuntimeError, "begun holds no checkpoint yet"),
        (tmp_path, RuntimeError, "is no run directory"),
        (tmp_path / "nowhere", ValueError, "--workdirs: .*nowhere' is no directory"),
    ):
        with pytest.raises(error, match=told) as caught:
            command(f"--workdirs={run}")
        assert "\n" not in str(caught.value)
