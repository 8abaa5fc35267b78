"""What a configuration may hold, before anything is compiled for it."""

import json

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from draw_jax.data.interface import Batch
from draw_jax.model import build
from draw_jax.runs import directory
from draw_jax.system import devices
from draw_jax.system.errors import UserError
from draw_jax.training import config as settings
from draw_jax.training.step import (
    initial_state,
    learning_rate,
    make_optimizer,
    make_update,
)
from tests.helpers import NO_ATTENTION, small_config


def changed(**fields):
    """Returns the small configuration with fields of any type, "data__name" for data.name."""
    config = small_config().copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        for name, value in fields.items():
            group, _, field = name.rpartition("__")
            place = config[group] if group else config
            if field in place:
                del place[field]  # or the value would be cast to the type of the one before
            place[field] = value
    return config


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"seed": 2**32}, r"config.seed: expected 0 to 4294967295 \(2\^32 - 1\), got 4294967296"),
        ({"seed": "one"}, "config.seed: expected 0 to 4294967295 .*, got 'one'"),
        (
            {"train__batch_size": "sixty"},
            "config.train.batch_size: expected a whole number, got 's",
        ),
        ({"train__batch_size": True}, "config.train.batch_size: expected a whole number, got True"),
        ({"train__warmup_steps": 2**31}, "config.train.warmup_steps: expected < 2147483648"),
        ({"train__clip_norm": 10**100}, "config.train.clip_norm: expected <= 3.40282e"),
        ({"train__num_steps": 0}, "config.train.num_steps: expected >= 1, got 0"),
        (
            {"train__learning_rate": float("nan")},
            "config.train.learning_rate: expected > 0, finite",
        ),
        (
            {"train__average_decay": 1.0},
            "config.train.average_decay: expected 0 or more and below 1",
        ),
        ({"train__init_from": None}, "config.train.init_from: expected text, got None"),
        ({"model__new": b"x"}, "config.model.new: expected what JSON can hold, got bytes"),
        ({"data__new": float("nan")}, "config.data.new: expected what JSON can hold, got nan"),
        ({"data__data_dir": "a\0b"}, "config.data.data_dir: expected text, got 'a.x00b'"),
        ({"model__canvas_bias": 10**400}, "config.model.canvas_bias: expected -2147483647 to"),
        ({"model__canvas_bias": -(2.0**31)}, "config.model.canvas_bias: expected -2147483647 to"),
        ({"new": [{1}]}, "config.new: expected what JSON can hold, got list"),
        ({"train": 7}, "config.train.batch_size: missing"),
        ({"model__enc_size": 10**9}, "config.model.enc_size: expected <= 1048576, got 1000000000"),
        ({"model__read_size": 500}, "config.model.read_size: expected at most 28, .*, got 500"),
        ({"model__unroll": 99}, "config.model.unroll: expected at most 2, the time steps, got 99"),
        ({"model__image_shape": 28}, "image_shape"),
        ({"model__image_shape": ("a", "b", "c")}, "image_shape: expected .height, width, ch"),
        ({"model__image_shape": ()}, "image_shape: expected .height"),
        ({"kind": "drew"}, "config.kind: expected 'draw' or .*, got 'drew'"),
    ],
    ids=str,
)
def test_a_field_out_of_range_or_type_is_named(fields, told):
    with pytest.raises(ValueError, match=told):
        settings.check(changed(**fields))


@pytest.mark.parametrize(
    ("group", "name"),
    [("data", "binarization"), ("model", "image_shape"), ("train", "average_decay")],
)
def test_a_missing_field_is_named(group, name):
    config = changed()
    with config.unlocked():
        del config[group][name]
    with pytest.raises(ValueError, match=f"config.{group}.{name}: missing"):
        settings.check(config)


def test_what_fits_no_memory_is_refused_and_what_does_is_not(monkeypatch):
    config = small_config()
    task = settings.check(config)
    needed = sum(settings._memory_needed(task, config))
    sizes = {}
    monkeypatch.setattr(devices, "memory_bytes", lambda free=True: sizes[free])
    sizes |= {True: needed, False: needed}
    settings.check(config)
    sizes |= {True: needed - 1, False: needed - 1}
    with pytest.raises(ValueError, match="GiB are free: make the batch or the model smaller"):
        settings.check(config)
    sizes |= {False: needed}  # the same command may do later
    with pytest.raises(UserError, match="free: wait for the programs that use the rest, or make"):
        settings.check(config)
    sizes |= {True: None, False: None}  # not known
    settings.check(config)


@pytest.mark.parametrize(
    "fields",
    [pytest.param({}, marks=pytest.mark.slow, id="attention"), pytest.param(NO_ATTENTION, id="no")],
)
def test_the_estimate_is_below_xlas_own_figure_and_above_a_third_of_it(fields):
    config = small_config(
        **fields | {"model.enc_size": 32, "model.dec_size": 32, "model.time_steps": 16}
    )
    task, train = build.task(build.build(config)), config.train
    keys = build.keys(0)
    state = jax.eval_shape(lambda: initial_state(task.model, keys.init, train))
    images = jax.ShapeDtypeStruct((train.batch_size, *config.model.image_shape), jnp.uint8)
    update = jax.jit(make_update(task, config, keys.train))
    analysis = update.lower(state, 0, Batch(images, None)).compile().memory_analysis()
    _, kept = settings._memory_needed(task, config)
    assert kept > 2**20
    assert kept < analysis.temp_size_in_bytes < 3 * kept


def test_fields_that_differ_are_named_and_free_ones_are_not():
    ours = small_config(**{"model.latent_size": 3, "train.log_every": 7, "train.num_steps": 99})
    assert settings.differing_fields(ours, small_config()) == ["config.model.latent_size: 2 -> 3"]
    assert settings.differing_fields(small_config(), ours) == [
        "config.model.latent_size: 3 -> 2",
        "config.train.num_steps: 99 -> 40",
    ]


def test_a_number_of_updates_that_is_none_differs():
    theirs = changed(train__num_steps=[40])
    for one, other in ((small_config(), theirs), (theirs, small_config())):
        (told,) = settings.differing_fields(one, other)
        assert told.startswith("config.train.num_steps: ")


def test_a_run_without_a_checkpoint_can_be_another(tmp_path):
    directory.write_config(tmp_path, small_config())
    other = small_config(**{"model.latent_size": 3})
    settings.check_continues(other, tmp_path)
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    with pytest.raises(
        directory.RunConflictError, match="latent_size: 2 -> 3\ngive another --work"
    ):
        settings.check_continues(other, tmp_path)
    settings.check_continues(small_config(), tmp_path)


def test_a_whole_number_may_stand_for_a_real_one():
    config = changed(
        train__learning_rate=10**10, train__clip_norm=10**10, train__final_learning_rate=1
    )
    settings.check(config)
    assert learning_rate(config.train)(config.train.warmup_steps) == 1e10
    optimizer = make_optimizer(config.train)
    weights = {"w": jnp.ones(2)}
    updates, _ = optimizer.update(weights, optimizer.init(weights), weights)
    assert jnp.isfinite(updates["w"]).all()


def test_a_cpu_is_as_many_devices_as_asked_as_the_run_has_begun_with_or_as_is_best(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(devices, "for_cores", lambda batch_size: 1000 + batch_size)
    config, run = small_config(**{"train.cpu_devices": 0, "train.batch_size": 24}), tmp_path / "run"
    assert settings.cpu_devices(config) == settings.cpu_devices(config, run) == 1024
    run.mkdir()
    directory.write_config(run, small_config(**{"train.cpu_devices": 3}))
    assert settings.cpu_devices(config, run) == 3
    assert settings.cpu_devices(small_config(**{"train.cpu_devices": 5}), run) == 5
    stored = json.loads((run / "config.json").read_text())
    del stored["train"]["cpu_devices"], stored["digest"]  # as of an earlier version: one
    (run / "config.json").write_text(json.dumps(stored))
    assert settings.cpu_devices(config, run) == 1
    (run / "config.json").write_text("{")
    assert settings.cpu_devices(config, run) == 1024  # and training tells of the damage
    assert settings.cpu_devices(ConfigDict({"train": 7})) == 1


@pytest.mark.parametrize("value", [-1, 1025, 2.0, True, "2"])
def test_a_number_of_devices_that_cannot_be_leaves_one_and_is_named(value):
    config = small_config()
    with config.unlocked():
        config.train = config.train.to_dict() | {"cpu_devices": value}
    assert settings.cpu_devices(config) == 1
    with pytest.raises(ValueError, match="config.train.cpu_devices: expected"):
        settings.check(config)
