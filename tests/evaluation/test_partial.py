"""A pass that is killed goes on from what it had kept."""

import copy
import json
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draw_jax.commands import evaluate as command
from draw_jax.configs import mnist_two_digits
from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.evaluation import importance, partial, passes
from draw_jax.evaluation.partial import Partial
from draw_jax.model import build
from draw_jax.runs import checkpoint

COUNT, SAMPLES = 23, 25
THIS = {"weights": "these", "--split": "test"}


@pytest.fixture(scope="module")
def drawer(tiny):
    """Returns a task and variables, once: a pass of another task compiles anew."""
    model, variables = tiny()
    return build.task(model), variables


def prepare(image, key):
    return splits.prepare(image, "dynamic", key)


@pytest.fixture
def measure(drawer, monkeypatch):
    """Returns measure(partial, **options) -> the result of a pass in batches of 4."""
    monkeypatch.setattr(partial, "_EVERY", 0.0)  # every time
    task, variables = drawer
    shape = (COUNT, *task.model.image_shape)
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)

    def pass_over(kept=None, **options):
        options = {"importance_samples": SAMPLES, "batch_size": 4, "partial": kept} | options
        split = ArraySplit(pixels, None, False)
        return passes.evaluate(task, variables, split, prepare, jax.random.key(0), **options)

    return pass_over


class Killed(Exception):
    pass


def killed(measure, path, calls):
    """Begins a pass that ends when it tells of samples for so many times; returns what it told."""
    told = []

    def on_samples(done):
        told.append(done)
        if len(told) == calls:
            raise Killed

    with pytest.raises(Killed):
        measure(Partial(path, THIS), on_samples=on_samples)
    return told


@pytest.mark.parametrize("calls", [1, 3, 17])
def test_a_pass_killed_after_some_samples_goes_on_to_the_same_numbers(measure, tmp_path, calls):
    whole, path = measure(), tmp_path / "kept.part"

    told = killed(measure, path, calls)
    kept = Partial(path, THIS)
    # Of each batch 10, 20 and 25 samples are looked at.
    assert kept.done == kept_before(calls)
    assert kept.done * SAMPLES + min(4, COUNT - kept.done) * kept.samples == told[-1]
    again = []
    assert measure(kept, on_samples=again.append) == whole
    assert again == sorted(again) and again[0] >= told[-1] and again[-1] == COUNT * SAMPLES
    kept.finish()
    assert not list(tmp_path.iterdir())


def test_another_size_of_batches_loses_no_image(measure, tmp_path):
    """As the size is a multiple of the devices, another machine may have another one."""
    whole, path, calls = measure(), tmp_path / "kept.part", 11

    killed(measure, path, calls)
    kept, done = Partial(path, THIS), []
    assert kept.samples == 20  # of the fourth batch, which is begun anew
    found = measure(kept, batch_size=5, on_batch=done.append)
    assert done == [kept_before(calls) + 5, kept_before(calls) + 10, COUNT]
    assert {name: np.shape(value) for name, value in found.items()} == {
        name: np.shape(value) for name, value in whole.items()
    }
    for name, value in whole.items():  # the order of sums differs
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6)


def kept_before(calls):
    """Returns the images that are done at a call, of batches of 4 with three calls each."""
    return (calls - 1) // 3 * 4


def test_between_two_batches_no_sample_is_drawn_again(measure, tmp_path):
    whole, path = measure(), tmp_path / "kept.part"

    def on_batch(done):
        if done == 8:
            raise Killed

    with pytest.raises(Killed):
        measure(Partial(path, THIS), on_batch=on_batch)
    kept = Partial(path, THIS)
    assert (kept.done, kept.samples, kept.log_sum) == (8, 0, None)
    again = []
    assert measure(kept, on_samples=again.append) == whole
    assert again[0] == 8 * SAMPLES + 4 * 10


@pytest.mark.parametrize("damage", ["cut", "text", "missing"])
def test_what_is_damaged_is_not_used(measure, tmp_path, damage):
    path = tmp_path / "kept.part"
    whole = measure(Partial(path, THIS))
    assert Partial(path, THIS).done == COUNT
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "text":
        path.write_text("no arrays")
    elif damage == "missing":
        path.unlink()
    kept = Partial(path, THIS)
    assert (kept.done, kept.samples, kept.losses) == (0, 0, {})
    assert kept.damaged == (damage != "missing")
    assert measure(kept) == whole


def test_what_is_of_another_pass_is_kept(measure, tmp_path):
    path = tmp_path / "kept.part"
    measure(Partial(path, THIS))
    data = path.read_bytes()
    others = "of another evaluation, with other weights, --seed: .*--checkpoint=STEP.*or delete it"
    with pytest.raises(ValueError, match=others):
        Partial(path, THIS | {"weights": "those", "--seed": 1})
    assert path.read_bytes() == data


def test_nothing_is_written_before_its_time_or_without_a_path(measure, tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "_EVERY", 1e9)
    measure(Partial(tmp_path / "kept.part", THIS))
    measure(Partial())
    assert not list(tmp_path.iterdir())


def test_the_first_images_of_a_split_alone(measure):
    first = measure(images=10)
    told = []
    measure(on_batch=told.append, images=10)
    assert first["images"] == 10 and told == [4, 8, 10]
    assert measure(images=1000) == measure()
    assert first["nll"] != measure()["nll"]


def test_the_bound_falls_with_k_to_the_integral_over_z(tiny):
    """With one latent number and one step, -log p(x) is an integral that quadrature can do."""
    model, variables = tiny(time_steps=1, latent_size=1)
    x = (np.random.default_rng(2).random((3, *model.image_shape)) < 0.5).astype(np.float32)
    z = np.linspace(-12, 12, 4001, dtype=np.float32)
    canvas = model.apply(variables, z[None, :, None], method="generate").canvases[-1]
    logits = np.asarray(canvas, np.float64)[:, None]  # [4001, 1, H, W, C]
    log_likelihood = (x * logits - np.logaddexp(0, logits)).sum((-3, -2, -1))  # [4001, 3]
    log_joint = log_likelihood - z[:, None].astype(np.float64) ** 2 / 2 - np.log(2 * np.pi) / 2
    exact = -np.log(np.trapezoid(np.exp(log_joint), z, axis=0))
    task, key = build.task(model), jax.random.key(0)

    def bound(x, samples):
        arguments = (task, lambda image, key: image, variables, x, np.arange(len(x)), key)
        return np.asarray(importance.weighted_nll(*arguments, samples))

    # Of 20,000 samples the mean weight is within a few of its standard errors, here 0.5 %.
    np.testing.assert_allclose(bound(x, 20_000), exact, atol=0.03)
    many = np.repeat(x, 300, axis=0)  # each with noise of its own
    one, ten = (bound(many, k).reshape(3, 300).mean(1) for k in (1, 10))
    assert (one > ten + 0.03).all() and (ten > exact + 0.02).all()


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_killed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(partial, "_EVERY", 0.0)
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "--pretrained=mnist", "--split=test", "--images=6", "--batch_size=2"]
    monkeypatch.setattr(splits, "load", lambda *args, **kwargs: ArraySplit(IMAGES, None, True))
    words += ["--importance_samples=2", "--json=found.json"]
    batches = []
    weighted = importance.weighted_nll

    def killed(*args):
        batches.append(args)
        if len(batches) == 2:
            raise Killed
        return weighted(*args)

    monkeypatch.setattr(importance, "weighted_nll", killed)
    with pytest.raises(Killed):
        command.command(words)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json.part"]
    capsys.readouterr()
    assert command.command(words) == 0
    assert "going on from found.json.part: 2 of 6 images are done" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["images"] == 6 and found["importance_weighted_nll"] < found["elbo_loss"] + 5
    assert command.command([*words, "--json=again.json"]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again == found
    assert re.search("going on", capsys.readouterr().out) is None
    assert command.command([*words, "--json=other.json", "--seed=7"]) == 0
    other = json.loads((tmp_path / "other.json").read_text())
    ours = checkpoint.load("mnist")[0].seed
    assert (again["seed"], other["seed"]) == (ours, 7) and ours != 7
    assert other["nll"] != again["nll"]


IMAGES = np.random.default_rng(0).integers(0, 2, (8, 28, 28, 1), np.uint8) * np.uint8(255)


def test_what_decides_the_terms_is_the_identity():
    config, _, variables = checkpoint.load("mnist_classifier")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)

    def identity(pixels=pixels, labels=None, count=5, seed=0, *words, variables=variables):
        command.FLAGS.unparse_flags()
        command.FLAGS(["evaluate", "--workdir=.", *words])
        split = ArraySplit(pixels, labels, False)
        return copy.deepcopy(command._identity(config, variables, split, seed, count))

    def differ(other):
        assert other.keys() == first.keys()
        return [name for name in first if first[name] != other[name]]

    first, changed = identity(), pixels.copy()
    changed[4, 27, 27] ^= 1
    assert identity() == first == identity(pixels, None, 5, 0, "--batch_size=7")
    with config.unlocked():  # the same images elsewhere, and a run that has gone on since
        config.data.data_dir = config.data.manual_dir = "elsewhere"
        config.train.num_steps += 1
    assert identity() == first
    assert differ(identity(changed)) == ["images"]
    assert differ(identity(pixels, np.arange(5, dtype=np.int32))) == ["images"]
    assert differ(identity(count=4)) == ["images"]
    assert differ(identity(seed=1)) == ["--seed"]
    assert differ(identity(pixels, None, 5, 0, "--importance_samples=3")) == [
        "--importance_samples"
    ]
    assert differ(identity(pixels, None, 5, 0, "--split=train")) == ["--split"]
    assert identity(changed, count=4) == identity(count=4)  # the last image takes no part
    leaves, structure = jax.tree.flatten(variables)
    for k in range(len(leaves)):  # any one of them
        moved = [leaf + (n == k) for n, leaf in enumerate(leaves)]
        assert differ(identity(variables=jax.tree.unflatten(structure, moved))) == ["weights"]
    with config.unlocked():
        config.data.binarization = "dynamic"
        config.model.stride += 1
    assert differ(identity()) == ["config.model", "config.data"]


def test_training_images_without_an_end_have_no_nearest():
    config = mnist_two_digits.get_config()
    config.data.source = "digits"
    with pytest.raises(ValueError, match="--nearest_nll: .*'two_digits' have no end.*leave it out"):
        command._training(config)


def test_any_flipped_bit_costs_the_pass_and_no_more(measure, tmp_path):
    """What a zip file's reader raises differs: NotImplementedError, RuntimeError, KeyError, ..."""
    path = tmp_path / "kept.part"
    measure(Partial(path, THIS), importance_samples=0)
    data, damaged = bytearray(path.read_bytes()), 0
    sound = Partial(path, THIS).losses
    for place in range(8 * len(data) - 2_400, 8 * len(data), 5):  # of its table of contents
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        found = Partial(path, THIS)
        damaged += found.done == 0
        if found.done:
            assert found.done == COUNT and found.losses.keys() == sound.keys()
            for name, columns in found.losses.items():
                np.testing.assert_array_equal(np.concatenate(columns), np.concatenate(sound[name]))
        data[place // 8] ^= 1 << place % 8
    assert damaged > 50
    np.save(path.with_suffix(".npy"), np.zeros(3))
    assert Partial(path.with_suffix(".npy"), THIS).done == 0


class Weights(NamedTuple):
    """A task of given weights alone."""

    log_weight: Callable


def test_the_last_of_thousands_of_samples_counts_where_an_image_costs_thousands_of_nats():
    """Equal weights: the bound is the same for every K. A float32 of 8,800 nats has steps of 0.001."""
    given = np.float32([-8800.0, -90.0, -5100.25])
    task = Weights(lambda variables, x, keys: jnp.asarray(given))
    images = np.zeros((3, 1, 1, 1), np.uint8)
    for samples in (1, 7, 5_000):
        found = importance.weighted_nll(
            task, prepare, {}, images, np.arange(3), jax.random.key(0), samples
        )
        np.testing.assert_allclose(found, -given.astype(float), rtol=0, atol=1e-9)
