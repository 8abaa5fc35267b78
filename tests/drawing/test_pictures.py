"""Every kind of picture, drawn from a small model with random weights."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from draw_jax.commands import sample
from draw_jax.drawing import kinds, sampling
from draw_jax.drawing.figures import look
from draw_jax.model import attention, build
from draw_jax.model.classifier import GlimpseClassifier
from draw_jax.model.draw import Draw

OF_DRAW = ("samples", "sequence", "reconstruct", "interpolate", "nearest", "fix_step")
SIZE = {"time_steps": 3, "enc_size": 8, "dec_size": 7, "latent_size": 4}


def data_of(images, labels=None):
    return lambda split, count: kinds.Data(images[:count], labels)


def make_job(tmp_path, image_shape=(12, 10, 1), read_size=3, write_size=2, **changes):
    model = Draw(image_shape=image_shape, read_size=read_size, write_size=write_size, **SIZE)
    variables = build.initial_variables(model, jax.random.key(1))
    stored = np.random.default_rng(0).random((20, *image_shape), np.float32)
    settings = {"rows": 2, "columns": 3, "scale": 4} | changes
    given = (model, variables, jax.random.key(2), tmp_path, data_of(stored), lambda: stored)
    return kinds.Job(*given, **settings)


@pytest.mark.parametrize("kind", OF_DRAW)
@pytest.mark.parametrize(
    ("image_shape", "read_size", "write_size"),
    [((12, 10, 1), 3, 2), pytest.param((9, 8, 3), 0, 0, marks=pytest.mark.slow)],
)
def test_every_kind_saves_readable_pictures_and_arrays(
    tmp_path, kind, image_shape, read_size, write_size
):
    job = make_job(tmp_path, image_shape, read_size, write_size)
    paths = kinds.of_model(job.model)[kind](job)
    assert {path.suffix for path in paths} >= {".png", ".npz"}
    for path in paths:
        assert path.parent == tmp_path
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                assert arrays.files
                assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
        else:
            with Image.open(path) as picture:
                picture.load()
                assert min(picture.size) > min(image_shape[:2])
                assert len(np.unique(np.asarray(picture.convert("L")))) > 2


def test_samples_are_those_of_the_model_and_repeat(tmp_path):
    job = make_job(tmp_path)
    kinds.samples(job)
    first = (tmp_path / "samples.png").read_bytes()
    with np.load(tmp_path / "samples.npz") as arrays:
        images = arrays["images"]
    trace = sampling.generate(job.model, job.variables, job.key, 6)
    np.testing.assert_array_equal(images, sampling.mean_images(job.model, trace.canvases[-1]))
    kinds.samples(job)
    assert (tmp_path / "samples.png").read_bytes() == first
    kinds.samples(job._replace(key=jax.random.key(3)))
    assert (tmp_path / "samples.png").read_bytes() != first


def test_draws_are_black_and_white(tmp_path):
    kinds.samples(make_job(tmp_path, draws=True))
    with np.load(tmp_path / "samples.npz") as arrays:
        assert set(np.unique(arrays["images"])) == {0.0, 1.0}
        assert 0 < arrays["means"].min() and arrays["means"].max() < 1


def test_sequence_has_a_frame_per_step_and_loops(tmp_path):
    kinds.sequence(make_job(tmp_path))
    for name in ("sequence.gif", "sequence.webp"):
        with Image.open(tmp_path / name) as animation:
            assert animation.n_frames == SIZE["time_steps"] + 1  # the last without a mark
            assert animation.info["loop"] == 0
    strip = np.asarray(Image.open(tmp_path / "sequence.png").convert("RGB"))
    assert (strip == look.WRITE).all(axis=-1).any()


def test_reconstruct_shows_the_glimpse_on_the_images_own_scale(tmp_path, monkeypatch):
    job = make_job(tmp_path)
    shown, draw = {}, kinds.reconstructions.reconstruction

    def watched(*given, **more):
        shown.update(more)
        return draw(*given, **more)

    monkeypatch.setattr(kinds.reconstructions, "reconstruction", watched)
    # An image of one grey: every undistorted glimpse of it is that grey, whatever gamma is.
    grey = np.full((2, 12, 10, 1), 0.5, np.float32)
    kinds.reconstruct(job._replace(data=data_of(grey)))
    picture = np.asarray(Image.open(tmp_path / "reconstruct.png").convert("RGB"))
    assert (picture == look.READ).all(axis=-1).any()
    assert (picture == look.WRITE).all(axis=-1).any()
    with np.load(tmp_path / "reconstruct.npz") as arrays:
        assert arrays["kl"].shape == (3, 2)
        assert {f"read_{name}" for name in attention.Window._fields} <= set(arrays.files)
        assert np.ptp(arrays["read_gamma"]) > 1e-3
    np.testing.assert_allclose(shown["glimpses"], 0.5, atol=1e-5)


def test_nearest_is_the_training_image_itself_where_a_sample_equals_one(tmp_path):
    job = make_job(tmp_path)
    trace = sampling.generate(job.model, job.variables, job.key, 6)
    means = sampling.mean_images(job.model, trace.canvases[-1])
    training = np.concatenate([np.zeros((5, 12, 10, 1), np.float32), means])
    kinds.nearest(job._replace(training=lambda: training))
    with np.load(tmp_path / "nearest.npz") as arrays:
        # The last sample of each row of three is sample 2 and 5, at 5 + 2 and 5 + 5.
        np.testing.assert_array_equal(arrays["index"], [7, 10])
        np.testing.assert_array_equal(arrays["neighbours"], means[[2, 5]])


def test_interpolation_rows_begin_and_end_at_samples(tmp_path):
    job = make_job(tmp_path)
    kinds.interpolate(job)
    with np.load(tmp_path / "interpolate.npz") as arrays:
        ways = arrays["images"].reshape(2, 3, 12, 10, 1)
    ends = sampling.mean_images(
        job.model, sampling.generate(job.model, job.variables, job.key, 4).canvases[-1]
    )
    # The ends are decoded in batches of another size, so float32 sums differ in order.
    np.testing.assert_allclose(ways[:, 0], ends[0::2], atol=1e-5)
    np.testing.assert_allclose(ways[:, -1], ends[1::2], atol=1e-5)


@pytest.mark.parametrize("kind", sample.KINDS)
@pytest.mark.parametrize("changes", [{"rows": 10**6, "columns": 100}, {"scale": 1000}])
def test_a_picture_too_large_is_refused_before_the_model_draws(tmp_path, kind, changes):
    model = SimpleNamespace(image_shape=(12, 10, 1))  # nothing that could draw
    job = kinds.Job(model, {}, jax.random.key(2), tmp_path, data_of([]), list, **changes)
    with pytest.raises(ValueError, match="100 million pixels, .* fewer rows or columns"):
        getattr(kinds, kind)(job)
    assert not list(tmp_path.iterdir())


def test_the_command_names_every_kind():
    classifier = GlimpseClassifier((12, 10, 1), 2, 4, 3, classes=5)
    assert set(kinds.of_model(classifier)) == {"glimpses"}
    assert {*sample.KINDS} == {*OF_DRAW, "glimpses"}
    assert not kinds.of_model(SimpleNamespace(image_shape=(12, 10, 1)))
