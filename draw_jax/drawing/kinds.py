"""Kinds of pictures of a trained model: each draws, saves PNG (and animations) and the arrays.

The arrays lie beside every picture as .npz, so that your own figure needs no second run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from draw_jax.data.interface import LazyImages
from draw_jax.drawing import glimpses as looking
from draw_jax.drawing import latents, sampling
from draw_jax.drawing.figures import animations, grids, look, reconstructions, strips
from draw_jax.drawing.figures import glimpses as figures
from draw_jax.model import attention
from draw_jax.model.draw import Draw
from draw_jax.model.task import Model, Variables
from draw_jax.system import files

M = TypeVar("M", bound=Model)


class Data(NamedTuple):
    """The first images of a split, as the model sees them."""

    images: np.ndarray  # [N, H, W, C] in [0, 1]
    labels: np.ndarray | None  # integers [N]; None where the set has none


class Job(NamedTuple, Generic[M]):
    """What to draw with, and how."""

    model: M
    variables: Variables  # {"params": ...}
    key: jax.Array
    out: Path  # folder, made if missing
    data: Callable[[str, int], Data]  # split name, how many images at most
    training: Callable[[], np.ndarray | LazyImages]  # to be searched for the nearest, [M, H, W, C]
    rows: int = 8
    columns: int = 8
    scale: int | None = None  # whole-number enlargement; None = readable
    draws: bool = False  # samples: draws from D instead of its means
    linear: bool = False  # interpolate: straight lines instead of arcs
    time_step: int = 1  # fix_step: the one whose z is shared, 1..T


def samples(job: Job[Draw]) -> list[Path]:
    """Saves a grid of samples, the means of D or draws from it (eq. 16)."""
    _refuse_too_large(job, job.columns)
    trace = sampling.generate(job.model, job.variables, job.key, job.rows * job.columns)
    means = sampling.mean_images(job.model, trace.canvases[-1])
    shown = sampling.draw_images(job.model, job.key, trace.canvases[-1]) if job.draws else means
    picture = grids.grid(shown, columns=job.columns, scale=job.scale)
    return _save(job, "samples", picture, images=shown, means=means)


def sequence(job: Job[Draw]) -> list[Path]:
    """Saves how samples come about: a film strip (figures 1, 7, 10) and two animations."""
    _refuse_too_large(job, 1)
    trace = sampling.generate(job.model, job.variables, job.key, job.rows)
    frames = sampling.mean_images(job.model, trace.canvases)
    windows, size = trace.write_windows, job.model.write_size or None
    picture = strips.film_strip(frames, windows, size, scale=job.scale)
    paths = _save(job, "sequence", picture, frames=frames, **_arrays("write", windows))
    for name in ("sequence.gif", "sequence.webp"):
        animations.animation(frames, job.out / name, windows, size, scale=job.scale)
        paths.append(job.out / name)
    return paths


def reconstruct(job: Job[Draw]) -> list[Path]:
    """Saves what inference sees, draws and costs, step by step, for test images."""
    _refuse_too_large(job, 1)
    return reconstruct_images(job, job.data("test", job.rows).images)


def reconstruct_images(job: Job[Draw], images: np.ndarray) -> list[Path]:
    """Saves the same for your own images, [N, H, W, C] in [0, 1]."""
    output = sampling.reconstruct(job.model, job.variables, images, job.key)
    trace, size = output.trace, job.model.read_size
    assert trace is not None  # as reconstruct asks for it
    frames = sampling.mean_images(job.model, trace.canvases)
    first_canvas = job.variables["params"]["cell"]["canvas_0"]
    glimpses = None
    if trace.read_windows is not None and job.model.encoder_input == "both":
        # Eq. 27 without its factor gamma, so that the glimpse shows on the image's own scale.
        windows = looking.without_gamma(trace.read_windows)
        glimpses = np.asarray(attention.read(jnp.asarray(images), windows, size))
    picture = reconstructions.reconstruction(
        images,
        frames,
        np.maximum(output.kl, 0.0),  # float32 rounding can leave -1e-7
        errors=sampling.error_images(job.model, images, trace.canvases, np.asarray(first_canvas)),
        glimpses=glimpses,
        read_windows=trace.read_windows,
        read_size=size or None,
        write_windows=trace.write_windows,
        write_size=job.model.write_size or None,
        scale=job.scale,
    )
    arrays = _arrays("read", trace.read_windows) | _arrays("write", trace.write_windows)
    return _save(
        job,
        "reconstruct",
        picture,
        images=images,
        frames=frames,
        nll=output.nll,
        kl=output.kl,
        **arrays,
    )


def interpolate(job: Job[Draw]) -> list[Path]:
    """Saves interpolations between samples through latent space, one per row."""
    _refuse_too_large(job, max(2, job.columns))
    model = job.model
    z = sampling.noise(job.key, 2 * job.rows, model.time_steps, model.latent_size)
    rows = [
        latents.interpolate(
            model,
            job.variables,
            z[:, 2 * row],
            z[:, 2 * row + 1],
            max(2, job.columns),
            spherical=not job.linear,
        )[-1].copy()  # a view would keep all T of them
        for row in range(job.rows)
    ]
    means = sampling.mean_images(job.model, np.concatenate(rows))
    picture = grids.grid(means, columns=max(2, job.columns), scale=job.scale)
    return _save(job, "interpolate", picture, images=means)


def nearest(job: Job[Draw]) -> list[Path]:
    """Saves samples with, per row, the training image nearest to the last (figures 6, 9, 12)."""
    _refuse_too_large(job, job.columns)
    trace = sampling.generate(job.model, job.variables, job.key, job.rows * job.columns)
    means = sampling.mean_images(job.model, trace.canvases[-1])
    training = job.training()
    indices = latents.nearest(means[job.columns - 1 :: job.columns], training)
    neighbours = training[indices]
    picture = grids.with_nearest(means, neighbours, job.columns, scale=job.scale)
    return _save(job, "nearest", picture, images=means, neighbours=neighbours, index=indices)


def fix_step(job: Job[Draw]) -> list[Path]:
    """Saves samples that share z at one time step, the rest drawn freshly."""
    _refuse_too_large(job, job.columns)
    count = job.rows * job.columns
    trace = latents.fix_step(job.model, job.variables, job.key, job.time_step, count)
    means = sampling.mean_images(job.model, trace.canvases[-1])
    picture = grids.grid(means, columns=job.columns, scale=job.scale)
    return _save(job, f"fix_step_{job.time_step}", picture, images=means)


def glimpses(job: Job[looking.Looking]) -> list[Path]:
    """Saves what a classifier looks at in test images (figure 5), also as two animations."""
    _refuse_too_large(job, 1)
    images, labels = job.data("test", job.rows)
    return save_glimpses(job, looking.seen(job.model, job.variables, images, labels, job.key))


def save_glimpses(job: Job[looking.Looking], seen: figures.Seen) -> list[Path]:
    """Saves the same for what was already seen, your own picture for instance."""
    arrays = {} if seen.labels is None else {"labels": seen.labels}
    paths = _save(
        job,
        "glimpses",
        figures.sheet(seen, scale=job.scale),
        images=seen.images,
        glimpses=seen.glimpses,
        logits=seen.logits,
        **arrays,
        **_arrays("read", seen.windows),
    )
    for name in ("glimpses.gif", "glimpses.webp"):
        paths.append(figures.animation(seen, job.out / name, job.scale))
    return paths


_OF_DRAW: dict[str, Callable[[Any], list[Path]]] = {
    "samples": samples,
    "sequence": sequence,
    "reconstruct": reconstruct,
    "interpolate": interpolate,
    "nearest": nearest,
    "fix_step": fix_step,
}
_OF_CLASSIFIER: dict[str, Callable[[Any], list[Path]]] = {"glimpses": glimpses}


def of_model(model: Model) -> dict[str, Callable[[Any], list[Path]]]:
    """Returns the kinds of pictures that a model has, functions of a Job; {} for none."""
    if isinstance(model, Draw):
        return _OF_DRAW
    return _OF_CLASSIFIER if looking.looks(model) else {}


def _refuse_too_large(job: Job[Any], columns: int) -> None:
    """Refuses a picture of `job.rows` x `columns` images at least, before any is drawn."""
    height, width, _ = job.model.image_shape
    look.check_sheet(job.rows, columns, height, width, job.scale)


def _arrays(prefix: str, windows: Any) -> dict[str, np.ndarray]:
    if windows is None:
        return {}
    return {f"{prefix}_{name}": value for name, value in windows._asdict().items()}


def _save(job: Job[Any], name: str, picture: Image.Image, **arrays: Any) -> list[Path]:
    png, npz = job.out / f"{name}.png", job.out / f"{name}.npz"
    look.save(picture, png)
    files.write_whole(npz, lambda file: np.savez_compressed(file, **arrays))
    return [png, npz]
