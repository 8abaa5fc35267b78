import jax
import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.data.sets.cluttered import Cluttered
from draw_jax.evaluation import importance, passes
from draw_jax.model import build
from draw_jax.system import devices

T, Z, SHAPE, COUNT = 3, 4, (7, 5, 1), 23
MODEL = {"time_steps": T, "latent_size": Z, "image_shape": SHAPE}
# The order of float32 sums differs with the batch: nats, of losses near 30.
ATOL = 1e-3


@pytest.fixture(scope="module")
def drawer(tiny):
    return tiny(**MODEL)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (COUNT, *SHAPE), np.uint8)


def prepare(image, key):
    return splits.prepare(image, "dynamic", key)


@pytest.fixture(scope="module")
def terms(drawer, images):
    """Returns nll [N], kl [N, T] and log weights [N, K], one image and one sample at a time.

    The log weights are those of densities written out, with none of the package's formulas.
    """
    model, variables = drawer
    apply = jax.jit(lambda x, eps: model.apply(variables, x, eps, trace=True))
    nll, kl, log_weights = [], [], []
    for index, image in enumerate(images):
        x_key, eps_key = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        x = prepare(image, x_key)[None]
        row = []
        for k in range(16):
            eps = jax.random.normal(jax.random.fold_in(eps_key, k), (T, Z))
            output = jax.device_get(apply(x, eps[:, None]))
            mean, log_std = (a[:, 0].astype(np.float64) for a in output.trace[-2:])
            z = mean + np.exp(log_std) * np.asarray(eps, np.float64)
            log_p = (-(z**2) / 2 - np.log(2 * np.pi) / 2).sum()
            density = -(((z - mean) / np.exp(log_std)) ** 2) / 2 - np.log(2 * np.pi) / 2
            row.append(-float(output.nll[0]) + log_p - (density - log_std).sum())
            if k == 0:
                nll.append(float(output.nll[0]))
                kl.append(output.kl[:, 0].astype(np.float64))
        log_weights.append(row)
    return np.array(nll), np.array(kl), np.array(log_weights)


def evaluate(drawer, images, **options):
    model, variables = drawer
    key = options.pop("key", jax.random.key(0))
    split = ArraySplit(images, None, False)
    return passes.evaluate(build.task(model), variables, split, prepare, key, **options)


@pytest.mark.parametrize("batch_size", [4, 20, 200])
def test_a_pass_is_the_mean_over_single_images_whatever_the_batch(
    drawer, images, terms, batch_size
):
    nll, kl, _ = terms
    assert nll.shape == (COUNT,) and kl.shape == (COUNT, T) and nll.std() > 1
    result = evaluate(drawer, images, batch_size=batch_size)
    assert result["images"] == COUNT
    loss = nll + kl.sum(1)
    for name, column in {"nll": nll, "kl": kl.sum(1), "elbo_loss": loss}.items():
        assert result[name] == pytest.approx(column.mean(), abs=ATOL)
        expected = column.std(ddof=1) / np.sqrt(COUNT)
        assert result[f"{name}_se"] == pytest.approx(expected, abs=ATOL)
    np.testing.assert_allclose(result["kl_per_step"], kl.mean(0), atol=ATOL)
    assert result["elbo_loss"] == pytest.approx(result["nll"] + result["kl"], rel=1e-6)


def test_the_filling_of_the_last_batch_does_not_count(drawer, images, terms):
    sums = [n * evaluate(drawer, images[:n], batch_size=4)["nll"] for n in (20, COUNT)]
    assert sums[1] - sums[0] == pytest.approx(terms[0][20:].sum(), abs=3 * ATOL)


def test_the_order_of_the_batches_does_not_matter(drawer, images, monkeypatch):
    result = evaluate(drawer, images, batch_size=4)
    batches = devices.batches
    monkeypatch.setattr(devices, "batches", lambda *args: reversed(list(batches(*args))))
    backwards = evaluate(drawer, images, batch_size=4)
    assert backwards.keys() == result.keys()
    for name, value in result.items():
        np.testing.assert_allclose(backwards[name], value, rtol=1e-9)


@pytest.mark.parametrize("samples", [1, 16])
def test_the_importance_weighted_bound(drawer, images, terms, samples):
    log_weights = terms[2][:, :samples]
    highest = log_weights.max(1, keepdims=True)
    mean_weight = np.exp(log_weights - highest).mean(1)
    expected = -(np.log(mean_weight) + highest[:, 0])
    result = evaluate(drawer, images, batch_size=4, importance_samples=samples)
    assert result["importance_weighted_nll"] == pytest.approx(expected.mean(), abs=ATOL)
    error = expected.std(ddof=1) / np.sqrt(COUNT)
    assert result["importance_weighted_nll_se"] == pytest.approx(error, abs=ATOL)
    if samples > 1:  # by Jensen's inequality, and here by far
        assert result["importance_weighted_nll"] < -log_weights.mean() - 0.1
        assert result["importance_weighted_nll"] < result["elbo_loss"]


def test_without_samples_there_is_no_importance_weighted_bound(drawer, images):
    assert not any("importance" in name for name in evaluate(drawer, images[:4], batch_size=4))


def test_a_pass_can_be_repeated_and_depends_on_its_key(drawer, images):
    first, second = (evaluate(drawer, images, batch_size=4) for _ in range(2))
    assert first == second
    other = evaluate(drawer, images, key=jax.random.key(1), batch_size=4)
    assert abs(other["nll"] - first["nll"]) > 1e-2  # other noise, other binary images


def test_dynamic_binarisation_belongs_to_the_image(images):
    """Sample k of the noise leaves an index's binary image as it is; another index has another."""
    grey = np.full((2, *SHAPE), 128, np.uint8)

    key, both = jax.random.key(0), np.array([5, 9])
    x, keys = importance.inputs(prepare, grey, both, key, 0)
    x_again, keys_again = importance.inputs(prepare, grey, both, key, 1)
    eps, eps_again = (jax.vmap(noise)(k) for k in (keys, keys_again))
    np.testing.assert_array_equal(x, x_again)
    assert x.shape == (2, *SHAPE) and eps.shape == (2, T, Z)
    assert (x[0] != x[1]).any() and np.abs(eps - eps_again).min() > 0
    x_single, keys_single = importance.inputs(prepare, grey[1:], both[1:], key, 0)
    np.testing.assert_array_equal(x_single[0], x[1])
    np.testing.assert_array_equal(noise(keys_single[0]), eps[1])


def noise(key):
    return jax.random.normal(key, (T, Z))


def known_windows(tiny, shift=0.0):
    """Returns a model whose windows do not depend on what it sees; shifted from the centre."""
    fields = {"read_delta": 0.5, "read_sigma": 1.5, "write_delta": 0.25, "write_sigma": 0.8}
    model, variables = tiny(**MODEL, **fields, initialised=True)
    heads = variables["params"]["cell"]["heads"]
    heads["kernel"] = np.zeros_like(heads["kernel"])
    bias = np.array(heads["bias"])
    bias[-5] = shift  # g~_x of the read window, the last of the heads
    bias[-1] = np.log(3.0)  # its gamma
    bias[-10] = 6.1 / 3 - 1  # the write window reaches the image with N = 3, and would not with 2
    heads["bias"] = bias
    return model, variables


def test_window_statistics_of_known_windows(tiny, images):
    result = evaluate(known_windows(tiny), images[:6], batch_size=4)
    expected = {
        "read_sigma": 1.5,
        "read_delta": 0.5 * (7 - 1) / (2 - 1),  # eq. 24, pixels
        "read_gamma": 3.0,
        "read_off_image": 0.0,
        "write_sigma": 0.8,
        "write_delta": 0.25 * (7 - 1) / (3 - 1),
        "write_gamma": 1.0,
        "write_off_image": 0.0,
    }
    found = {name: value for name, value in result.items() if name.startswith(("read", "write"))}
    assert found == pytest.approx(expected, rel=1e-5)
    assert (
        evaluate(known_windows(tiny, shift=10.0), images[:6], batch_size=4)["read_off_image"] == 1.0
    )


def test_without_attention_there_are_no_window_statistics(tiny, images):
    result = evaluate(tiny(**MODEL, read_size=0, write_size=0), images[:4])
    assert not any(name.startswith(("read", "write")) for name in result)
    assert len(result["kl_per_step"]) == T


def test_the_caller_is_told_how_far_and_may_stop(drawer, images):
    told = []
    evaluate(drawer, images, batch_size=4, on_batch=told.append)
    assert told == [4, 8, 12, 16, 20, 23]

    def stop(done):
        raise passes.Interrupted

    with pytest.raises(passes.Interrupted):
        evaluate(drawer, images, batch_size=4, on_batch=stop)


def test_no_images_are_refused(drawer, images):
    with pytest.raises(ValueError, match="expected a split of at least one image, got none"):
        evaluate(drawer, images[:0])


def test_an_endless_split_is_refused(drawer):
    model, variables = drawer
    digits = ArraySplit(np.ones((3, 5, 5, 1), np.uint8), np.zeros(3, np.int32), binary=False)
    endless = Cluttered(digits, seed=0, split="train", size=7, clutter=0, crop_size=1)
    with pytest.raises(ValueError, match="an end, got endless .*: evaluate validation or test"):
        passes.evaluate(build.task(model), variables, endless, prepare, jax.random.key(0))
