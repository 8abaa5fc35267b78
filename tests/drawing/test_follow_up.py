"""What draws and measures a Draw does so with the models of the 2016 follow-up study."""

import jax
import numpy as np
import pytest

from draw_jax.data import splits
from draw_jax.data.interface import ArraySplit
from draw_jax.drawing import kinds, report
from draw_jax.evaluation import passes
from draw_jax.model import build
from draw_jax.model.draw import Draw
from draw_jax.model.variants.model_1 import Model1
from draw_jax.model.variants.model_2 import Model2
from draw_jax.model.variants.model_3 import Model3
from tests.helpers import TINY

LAYERS = {"filters": (3, 4), "filter_size": 3}
MODELS = {
    "error alone": Draw(**TINY, encoder_input="error", privy=False),
    "model 1": Model1(**(TINY | LAYERS | {"read_size": 0})),
    "model 2": Model2(**TINY, **LAYERS, classes=4, hidden_size=5),
    "model 3": Model3(**TINY, **LAYERS),
}


DAILY = "model 2"  # which has what the others have and a classifier
PARAMS = [pytest.param(m, marks=() if m == DAILY else pytest.mark.slow) for m in MODELS]


@pytest.fixture(params=PARAMS)
def drawer(request):
    model = MODELS[request.param]
    make = jax.jit(build.initial_variables, static_argnums=0)
    return model, make(model, jax.random.key(0))


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, *TINY["image_shape"]), np.uint8)


def test_every_kind_of_picture_is_drawn(drawer, tmp_path):
    model, variables = drawer
    assert build.drawing(model) is model
    x = images(5) / np.float32(255)
    data = kinds.Data(x, None)
    job = kinds.Job(
        *(model, variables, jax.random.key(1), tmp_path, lambda split, count: data, lambda: x),
        rows=5,
        columns=2,
    )
    found = kinds.of_model(model)
    assert set(found) == {
        *("samples", "sequence", "interpolate", "fix_step", "reconstruct", "nearest")
    }
    for name, draw in found.items():
        paths = draw(job)
        assert all(path.stat().st_size > 0 for path in paths), name
    split = ArraySplit(images(5), None, False)
    at = (jax.random.key(1), 3, split, "none")
    name, picture = report.validation_picture(tmp_path / "run", model, variables, *at)
    assert name == "samples" and picture.ndim == 3


def test_it_is_evaluated_and_its_bound_importance_weighted(drawer):
    model, variables = drawer
    labels = np.arange(40, dtype=np.int32) % 4
    split = ArraySplit(images(40), labels, False)
    task = build.task(model)
    result = passes.evaluate(
        *(task, variables, split, lambda x, key: splits.prepare(x, "dynamic", key)),
        jax.random.key(2),
        batch_size=20,
        importance_samples=50,
    )
    assert result["images"] == 40 and result["elbo_loss"] == pytest.approx(
        result["nll"] + result["kl"]
    )
    assert result["importance_weighted_nll"] < result["elbo_loss"]
    assert ("error" in result) == ("confusion" in result) == (task.classes > 0)
    assert len(result["kl_per_step"]) == model.time_steps
