"""Active latent units, against loops over images and the reference's posterior means."""

import jax
import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.data.sets.cluttered import Cluttered
from draw_jax.evaluation import activity
from tests import reference
from tests.evaluation.test_evaluation import COUNT, T, Z, drawer, images, prepare

__all__ = ["drawer", "images"]  # fixtures


def measure(drawer, pixels, **options):
    split, key = ArraySplit(pixels, None, False), jax.random.key(0)
    return activity.measure(*drawer, split, prepare, key, **options)


@pytest.fixture(scope="module")
def variances(drawer, images):
    """Returns each unit's covariance over images of two posterior means, [T][Z], by loops."""
    model, variables = drawer
    means = []  # of image, sample, time step, unit
    for index, image in enumerate(images):
        x_key, eps_key = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        x = np.asarray(prepare(image, x_key))
        of_image = []
        for k in range(2):
            eps = np.asarray(jax.random.normal(jax.random.fold_in(eps_key, k), (T, Z)))
            _, steps = reference.unroll(variables, x, eps, model.read_size, model.write_size)
            of_image.append([step.mean for step in steps])
        means.append(of_image)
    result = []
    for t in range(T):
        row = []
        for d in range(Z):
            pairs = [(of_image[0][t][d], of_image[1][t][d]) for of_image in means]
            one, other = (sum(pair[k] for pair in pairs) / COUNT for k in range(2))
            row.append(sum((a - one) * (b - other) for a, b in pairs) / COUNT)
        result.append(row)
    return result


@pytest.mark.parametrize("batch_size", [4, 200])
@pytest.mark.parametrize("quantile", [0.3, 0.7])
def test_a_unit_is_active_whose_covariance_is_above_the_threshold(
    drawer, images, variances, quantile, batch_size, monkeypatch
):
    values = sorted(value for row in variances for value in row)
    place = round(quantile * len(values))
    threshold = (values[place - 1] + values[place]) / 2  # between two: rounding decides nothing
    monkeypatch.setattr(activity, "THRESHOLD", threshold)
    found = measure(drawer, images, batch_size=batch_size)
    assert found == {
        "active_units": len(values) - place,
        "latent_units": T * Z,
        "active_per_step": [sum(value > threshold for value in row) for row in variances],
    }


def test_noise_alone_makes_no_unit_active(drawer, images, monkeypatch):
    """Of one image, again and again, the means vary by the z before them alone."""
    model, variables = drawer
    same = np.repeat(images[:1], 400, axis=0)

    def prepare(image, key):
        return splits.prepare(image, "none", key)

    key = jax.random.key(0)
    means = activity._means(model, prepare, variables, same, np.arange(len(same)), key, 0)
    by_one_pass = means.var(axis=1)
    assert by_one_pass.max() > 1e-6
    monkeypatch.setattr(activity, "THRESHOLD", by_one_pass.max() / 2)
    split = ArraySplit(same, None, False)
    assert activity.measure(model, variables, split, prepare, key)["active_units"] == 0


def test_the_first_images_alone_and_how_far(drawer, images):
    told = []
    found = measure(drawer, images, images=9, batch_size=4, on_batch=told.append)
    assert told[-1] == 9 and found == measure(drawer, images[:9])


def test_a_split_without_variance_is_refused(drawer, images):
    digits = ArraySplit(images[:, :5], np.zeros(COUNT, np.int32), False)
    endless = Cluttered(digits, seed=0, split="train", size=7, clutter=0, crop_size=1)
    for split in (ArraySplit(images[:1], None, False), endless):
        with pytest.raises(ValueError, match="expected two images or more of a split with an end"):
            activity.measure(*drawer, split, prepare, jax.random.key(0))


def test_the_threshold_is_that_of_burda_et_al():
    assert activity.THRESHOLD == 0.01
