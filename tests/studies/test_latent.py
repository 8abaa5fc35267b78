"""The latent study: shares of pairs of one class, against loops and on a planted cause."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from draw_jax.drawing import sampling
from draw_jax.drawing.figures import grids, look
from draw_jax.evaluation import classification
from draw_jax.model import build
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.model.variants.convnet import ConvNet
from draw_jax.model.variants.ram import Ram
from draw_jax.studies import judged, latent, legible
from tests.helpers import TINY, assert_one_error, forked

T, Z = TINY["time_steps"], TINY["latent_size"]


def test_the_shares_are_those_of_a_loop_over_pairs(tiny):
    model, variables = tiny(noise=1.0)
    key, pairs = jax.random.key(4), 12
    images = sampling.mean_images(model, sampling.generate(model, variables, key, 9).canvases[-1])
    middle = np.median(images.mean((1, 2, 3)))

    def bright(images):
        return (images.mean((1, 2, 3)) > middle).astype(int)

    found = latent.agreement(model, variables, bright, key, pairs)
    draw = jax.jit(lambda z: model.apply(variables, z, method="generate").canvases[-1])

    def named(z):
        return bright(np.asarray(jax.nn.sigmoid(draw(z[:, None]))))[0]

    noise = [jax.random.normal(jax.random.fold_in(key, i), (T, Z)) for i in range(2 * pairs)]
    same, held = 0, np.zeros(T)
    for k in range(pairs):
        a, b = np.asarray(noise[k]), np.asarray(noise[pairs + k])
        same += named(a) == named(b)
        for n in range(T):
            mixed = b.copy()
            mixed[n] = a[n]
            held[n] += named(a) == named(mixed)
    assert found.pairs == pairs and 0 < same < pairs
    assert found.chance == same / pairs
    np.testing.assert_array_equal(found.held, held / pairs)


def test_a_step_that_decides_the_class_is_found(tiny, monkeypatch):
    """Where the first number of z_2 alone decides between two classes."""
    model, variables = tiny()

    def decode(model, variables, z, batch_size=0):
        canvases = np.broadcast_to(np.sign(z[1, :, 0])[:, None, None, None], (z.shape[1], 7, 5, 1))
        return SimpleNamespace(canvases=canvases[None])

    monkeypatch.setattr(sampling, "decode", decode)
    found = latent.agreement(
        *(model, variables, lambda images: images[:, 0, 0, 0] > 0.5, jax.random.key(0), 4000)
    )
    assert found.held[1] == 1
    # The standard error of 4,000 fair coins is 0.008; 4 of them.
    np.testing.assert_allclose([*found.held[[0, 2]], found.chance], 0.5, atol=0.032)


def test_the_standard_error_is_that_of_independent_pairs():
    found = latent.Agreement(np.array([0.5, 1.0]), 0.2, 100)
    np.testing.assert_allclose(found.error(found.held), [0.05, 0.0])
    assert found.error(found.chance) == pytest.approx(0.04)
    lines = latent.table(found).splitlines()
    assert lines[2] == "| of step 1 | 50.0 +- 5.0 | +30.0 +- 6.4 |"
    assert lines[-1] == "| of none: chance | 20.0 +- 4.0 | |"


@pytest.mark.parametrize(
    "model",
    [
        ConvNet((9, 11, 1), 5, filters=3, filter_size=4, stride=2, hidden_size=6),
        GlimpseClassifier((9, 11, 1), 2, 6, 3, 5),
        Ram((9, 11, 1), 2, 5, read_size=3, scales=2, core_size=8),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_kind_of_classifier_answers(model):
    variables = jax.jit(build.initial_variables, static_argnums=0)(model, jax.random.key(0))
    images = np.random.default_rng(0).random((7, 9, 11, 1)).astype(np.float32)
    found = classification.logits(model, variables, images)
    assert found.shape == (7, 5) and np.isfinite(found).all()
    np.testing.assert_array_equal(classification.logits(model, variables, images), found)
    if isinstance(model, ConvNet):
        expected = model.apply(variables, images)[-1]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A place with a small run that draws, one that names its images, and one of another size."""
    place = tmp_path_factory.mktemp("latent")
    steps = ("--config.train.num_steps=1", "--config.train.warmup_steps=0")
    data = ("--config.data.source=digits", "--config.model.hidden_size=4")
    commands = [
        ("train.py", "--config=smoke", "--workdir=drawer", *steps),
        ("train.py", "--config=mnist_classifier", "--workdir=namer", *data, *steps),
    ]
    for done in forked(commands, cwd=place, XDG_CACHE_HOME=str(place / "caches")):
        assert done.returncode == 0, done.stderr
    return place


def study(place, *commands):
    whole = [("draw_jax.studies.latent", *words) for words in commands]
    return forked(whole, cwd=place, XDG_CACHE_HOME=str(place / "caches"))


@pytest.mark.slow
def test_the_command_prints_a_table_and_draws(place):
    words = ("--workdir=drawer", "--classifier=namer", "--pairs=20", "--out=out", "--json=x.json")
    (done,) = study(place, words)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((place / "x.json").read_text())
    assert len(result["held"]) == len(result["held_se"]) == 4 and result["pairs"] == 20
    for name in ("agreement", "held", "interpolate"):
        assert f"out/{name}.png" in done.stdout
        with Image.open(place / "out" / f"{name}.png") as picture:
            assert min(picture.size) > 100


def test_a_sample_is_judged_by_its_highest_probability():
    logits = np.log(np.array([[0.05, 0.9, 0.05], [0.4, 0.3, 0.3]])).astype(np.float32)
    highest, classes = legible.judge(logits + 3)  # a constant changes no probability
    np.testing.assert_allclose(highest, [0.9, 0.4], rtol=1e-6)
    assert classes.tolist() == [1, 0]


def test_the_judged_are_the_samples_and_the_most_doubtful_are_drawn_first(tiny, monkeypatch):
    model, variables = tiny()
    expected = sampling.generate(model, variables, jax.random.key(3), 20).canvases[-1]
    expected = sampling.mean_images(model, expected)
    scores = np.random.default_rng(0).permutation(20) / 20
    seen, shown = [], []

    def logits(images):  # of two classes, the first of which has a probability of 0.5 to 1
        seen.append(images)
        return np.stack([scores, np.zeros(20)], axis=1)

    monkeypatch.setattr(
        judged, "load", lambda models: judged.Judged(ConfigDict(), model, variables, logits)
    )
    monkeypatch.setattr(grids, "grid", lambda images: shown.append(images) or images)
    monkeypatch.setattr(look, "save", lambda picture, path: path)
    monkeypatch.setattr(sampling.last_canvases, "__defaults__", (7, lambda done: None))
    legible.FLAGS(["legible", "--workdir=.", "--seed=3", "--samples=20", "--confidence=0.6"])
    assert legible.main() == 0
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6)
    order = [k for k in np.argsort(scores) if 1 / (1 + np.exp(-scores[k])) < 0.6]
    assert len(order) > 5
    np.testing.assert_array_equal(shown[0], seen[0][order])


@pytest.mark.slow
def test_samples_that_are_no_digit_are_counted_and_drawn(place):
    words = ("--workdir=drawer", "--classifier=namer", "--samples=30", "--out=doubts")
    commands = [(*words, "--confidence=0.999"), (*words, "--confidence=1e-3")]
    commands = [("draw_jax.studies.legible", *words) for words in commands]
    none, all_of_them = forked(commands, cwd=place, XDG_CACHE_HOME=str(place / "caches"))
    assert none.stdout.startswith("30 of 30 samples are no digit") and "100.0 %" in none.stdout
    assert all_of_them.stdout.startswith("0 of 30 samples are no digit")
    counts = none.stdout.splitlines()[2].removeprefix("samples of each class: ").split(", ")
    assert sum(int(count.split(": ")[1]) for count in counts) == 30
    assert [int(count.split(": ")[0]) for count in counts] == list(range(10))  # also those of none
    with Image.open(place / "doubts" / "doubtful.png") as picture:
        assert min(picture.size) > 100


@pytest.mark.slow
def test_mistakes_of_legible_are_one_line(place):
    told = {
        ("--workdir=drawer", "--samples=0"): (2, "--samples: expected 1 to 100,000, got 0"),
        ("--workdir=drawer", "--confidence=1"): (2, "--confidence: expected above 0 and below 1"),
    }
    commands = [("draw_jax.studies.legible", *words) for words in told]
    done = forked(commands, cwd=place, XDG_CACHE_HOME=str(place / "caches"))
    for one, (code, text) in zip(done, told.values(), strict=True):
        assert_one_error(one, code, text)


@pytest.mark.slow
def test_mistakes_are_one_line(place):
    told = {
        ("--classifier=namer",): (2, "Give one of --workdir=DIR and --pretrained"),
        ("--workdir=drawer", "--classifier="): (2, "--classifier: which one?"),
        ("--workdir=drawer", "--classifier=drawer"): (2, "a model of config.kind 'draw'"),
        ("--workdir=drawer", "--classifier=cluttered_mnist"): (2, "of images (100, 100, 1)"),
        ("--workdir=namer", "--classifier=namer"): (2, "expected a model of config.kind 'draw'"),
        ("--workdir=drawer", "--classifier=namer", "--pairs=0"): (2, "--pairs: expected 1 to"),
        ("--workdir=drawer", "--classifier=nowhere"): (1, "'nowhere' is no directory"),
    }
    for done, (code, text) in zip(study(place, *told), told.values(), strict=True):
        assert_one_error(done, code, text)
