"""A training step by ours and by PyTorch: python -m benchmarks.peers [--compile=false].

Every row of the table makes the same update: images on the device to [0, 1], binarised as the
configuration says, noise drawn within the step and from the implementation's own generator, loss
and gradient, clipping by global norm, Adam under the same learning rates, and the moving average
of the weights. Only ours also computes the norms of the update and of the weights, which it logs.

The PyTorch model, `benchmarks/torch_draw.py`, runs in eager mode and through torch.compile in mode
"default", which compiles one time step that Python repeats. --compiled_part=unroll compiles all
time steps as one graph instead, which takes longer the more there are. Both sides have the same
cores of a CPU; on a GPU, both multiply float32 matrices in TensorFloat-32, JAX's default.

First, both get the same weights, images and noise: unless loss and gradient agree, nothing is
timed. The compiled model's first step must agree with the eager one's. Ours is in a process of its
own, as in training. Before each turn there is a rest, until the threads of the one before stop
spinning, and then a step that is not timed. "times ours" is the median over the rounds of
the ratio within a round. Nothing else should run beside it: PyTorch's threads wait for the slowest
of them at every operation.
"""

import contextlib
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks import measuring, train_step, worker
from benchmarks.agreement import Agreement, agreement, loss_and_gradient
from draw_jax.model import build
from draw_jax.system import cli, devices
from draw_jax.training.step import learning_rate

flags.adopt_module_key_flags(measuring)
_COMPILE = flags.DEFINE_bool("compile", True, "Whether torch.compile gets a row")
_COMPILED_PART = flags.DEFINE_enum(
    "compiled_part", "step", ["step", "unroll"], "What it compiles: a time step or all of them"
)

_OURS = flags.DEFINE_bool("ours", False, "Whether to be the process that is ours")

# PyTorch's OpenMP threads spin for a while after their work and would take our cores.
_REST = 0.3  # seconds

Call = Callable[[], Any]
TITLES = {"ours": "ours", "eager": "PyTorch eager", "compiled": "PyTorch compiled"}


class NoPeer(Exception):
    """There is nothing to compare with here."""


class Disagreement(Exception):
    """The two models do not compute the same."""


LIMITS = {
    "float32": Agreement(1e-4, 0.9999, 1e-3),
    # A mantissa of 8 bits, and in partly different places: see torch_draw.precision.
    "bfloat16": Agreement(1e-2, 0.99, 5e-2),
}


class Row(NamedTuple):
    """The times of one implementation."""

    first_s: float | None  # the first step, with all that it compiles; None = it failed
    step_ms: Sequence[float]  # later steps, one per round; empty if the first failed
    failure: str = ""  # what failed, in one line


def load_torch_draw() -> Any:
    """Returns the module benchmarks.torch_draw.

    Raises:
        NoPeer: PyTorch is not installed.
    """
    try:
        return importlib.import_module("benchmarks.torch_draw")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "torch":
            raise
        raise NoPeer("PyTorch is not installed: pip install -e '.[peers]'") from None


def check(found: Agreement, limits: Agreement) -> None:
    """Raises Disagreement if two models are further apart than the limits, or not finite."""
    if not (
        found.loss_difference <= limits.loss_difference
        and found.gradient_cosine >= limits.gradient_cosine
        and found.norm_difference <= limits.norm_difference
    ):
        raise Disagreement(
            "the models do not compute the same, so nothing was timed: the losses differ "
            f"by {found.loss_difference:.1e} of the first's (at most {limits.loss_difference:.0e}), the "
            f"gradients' cosine is {found.gradient_cosine:.6f} (at least {limits.gradient_cosine})"
            f", their norms differ by {found.norm_difference:.1e} of it "
            f"(at most {limits.norm_difference:.0e})"
        )


def peer_device(torch: Any) -> Any:
    """Returns PyTorch's name for the kind of device that JAX computes on.

    Raises:
        NoPeer: PyTorch does not see it.
    """
    backend = jax.default_backend()
    if backend == "cpu":
        return torch.device("cpu")
    if backend == "gpu" and torch.cuda.is_available():
        return torch.device("cuda")
    raise NoPeer(
        f"JAX computes on a {backend} that PyTorch {torch.__version__} does not see: install a "
        "build of PyTorch for it, or compare on the CPU with JAX_PLATFORMS=cpu"
    )


@contextlib.contextmanager
def ours_at_work() -> Iterator[Call]:
    """Gives a call that makes our next update, in a process of its own."""
    words = ["-m", "benchmarks.peers", *measuring.config_flags_with({}), "--ours"]
    with worker.started("ours", [sys.executable, *words], dict(os.environ)) as process:

        def call() -> Any:
            worker.ask(process, "")
            return worker.answer(process)

        call()  # it is there
        yield call


def work(config: ConfigDict) -> int:
    """Makes an update for each line of stdin but the first, and answers it."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # otherwise prints of others could be taken for an answer
    call = train_step.updates(*train_step.make_step(config))
    for number, _ in enumerate(sys.stdin):
        if number:
            jax.block_until_ready(call())
        print("true", file=answers)
    return 0


def prepare(
    config: ConfigDict, updates: int, compiled_part: str, ours: Call
) -> tuple[dict[str, Call], Agreement]:
    """Returns a call per implementation that makes its next update, and how far they agree.

    Args:
        config: a whole configuration.
        updates: how often a call may be made.
        compiled_part: "step", "unroll", or "" for no torch.compile.
        ours: makes our next update.

    Raises:
        NoPeer: there is no PyTorch, or it does not see the device.
        Disagreement: the models do not compute the same.
    """
    torch_draw = load_torch_draw()
    torch = torch_draw.torch
    device = peer_device(torch)
    torch.set_num_threads(devices.cores())
    model = build.drawing(build.build(config))
    if model.likelihood != "bernoulli":
        raise ValueError(
            "config.model.likelihood: the PyTorch model has bernoulli alone, got "
            f"{model.likelihood!r}"
        )
    _, state, on_device = train_step.make_step(config, 1)
    params, images = jax.device_get((state.params, on_device.images))

    noise = np.random.default_rng(config.seed).standard_normal(
        (model.time_steps, len(images), model.latent_size), np.float32
    )
    x, peer = images / np.float32(255), torch_draw.like(model, params, device)
    loss, gradient = loss_and_gradient(model, params, x, noise)
    named = torch_draw.torch_layout(peer, gradient)
    their_loss, their_gradient = torch_draw.loss_and_gradient(peer, x, noise, model.dtype)
    found = agreement((loss, named), (their_loss, {name: their_gradient[name] for name in named}))
    check(found, LIMITS[model.dtype])

    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    schedule = learning_rate(config.train)
    rates = np.asarray(jax.vmap(schedule)(jnp.arange(updates))).tolist()
    trainings = {
        name: torch_draw.Training(torch_draw.like(model, params, device), config, rates, part)
        for name, part in (("eager", ""), ("compiled", compiled_part))
        if name == "eager" or part
    }
    calls = {"ours": ours} | {
        name: training.stepper(images) for name, training in trainings.items()
    }
    if compiled_part:
        calls["compiled"] = checked_once(
            calls["compiled"], trainings["compiled"], trainings["eager"], LIMITS[model.dtype]
        )
    return calls, found


def checked_once(call: Call, compiled: Any, eager: Any, limits: Agreement) -> Call:
    """Returns the compiled model's call, whose first step must match the eager one's.

    Both draw the same noise. The first call raises Disagreement if they differ.
    """
    checked = False

    def step() -> None:
        nonlocal checked
        call()
        if not checked:
            check(agreement(eager.loss_and_gradient(), compiled.loss_and_gradient()), limits)
            checked = True

    return step


def measure(calls: Mapping[str, Call], rounds: int) -> dict[str, Row]:
    """Returns the times of all calls: of a first one each, then in turn.

    Only a failure of "compiled" becomes a row: it needs a C++ compiler or Triton, which not every
    machine has.
    """
    rows = {}
    for name, call in calls.items():
        began = time.perf_counter()
        try:
            jax.block_until_ready(call())
            rows[name] = Row(time.perf_counter() - began, ())
        except Exception as error:
            if name != "compiled":
                raise
            rows[name] = Row(None, (), last_line(error))
    calls = {name: call for name, call in calls.items() if not rows[name].failure}
    for name, times in measuring.in_turn(calls, rounds, _REST, warm=True).items():
        rows[name] = rows[name]._replace(step_ms=times)
    return rows


def last_line(error: Exception) -> str:
    """Returns the last line of an error that says something about it."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and "TORCHDYNAMO_VERBOSE" not in line]  # advice
    return lines[-1] if lines else repr(error)


def times_ours(row: Row, ours: Row) -> float:
    """Returns how many times slower than ours, the median over the rounds."""
    return statistics.median(a / b for a, b in zip(row.step_ms, ours.step_ms, strict=True))


def figures(rows: Mapping[str, Row], found: Agreement) -> dict[str, Any]:
    """Returns the times and the agreement for --json; None for what was not run or failed."""
    row = {name: rows.get(name, Row(None, ())) for name in TITLES}
    median = {n: statistics.median(r.step_ms) if r.step_ms else None for n, r in row.items()}
    times = {n: times_ours(r, row["ours"]) if r.step_ms else None for n, r in row.items()}
    return {
        **{f"{name}_ms": median[name] for name in TITLES},
        "eager_ratio": times["eager"],
        "compiled_ratio": times["compiled"],
        "ours_compile_s": row["ours"].first_s,
        "compiled_compile_s": row["compiled"].first_s,
        "compiled_failure": row["compiled"].failure or None,
        **found._asdict(),
    }


def table(rows: Mapping[str, Row], batch: int) -> str:
    """Returns the times in Markdown."""
    cells = []
    for name, row in rows.items():
        if row.first_s is None:
            cells.append([TITLES[name], "failed", "", "", ""])
            continue
        step = measuring.spread(row.step_ms)
        cells.append(
            [
                TITLES[name],
                f"{row.first_s:.1f}",
                str(step),
                measuring.number(1e3 * batch / step.median),
                f"{times_ours(row, rows['ours']):.2f}",
            ]
        )
    names = ["", "first step, s", "later steps, ms (10 to 90 %)", "images/s", "times ours"]
    failures = [f"{TITLES[name]}: {row.failure}" for name, row in rows.items() if row.failure]
    return "\n".join([measuring.table(names, cells), *failures])


def main() -> int:
    """Prints the table and returns the exit code."""
    config, rounds = measuring.draw_config(), measuring.REPEATS.value
    compiled_part = _COMPILED_PART.value if _COMPILE.value else ""
    if _OURS.value:
        return work(config)
    load_torch_draw()  # before anything is started
    # Ours and PyTorch, which lives in this process, share a GPU: none may take most of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    count = train_step.share_cores(config)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ours_at_work() as ours:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # or a second run would not compile
        calls, found = prepare(config, 2 * rounds + 3, compiled_part, ours)
        rows = measure(calls, rounds)
    facts = {
        "compiled_part": compiled_part or None,
        "dtype": config.model.dtype,
        "batch": config.train.batch_size,
        "time_steps": config.model.time_steps,
        "device": measuring.device_name(count),
        "cores": devices.cores(),
        "jax": jax.__version__,
        "torch": load_torch_draw().torch.__version__,
    }
    print(table(rows, config.train.batch_size))
    print(
        f"On the same input, losses differ by {found.loss_difference:.1e}, gradients have a cosine "
        f"of {found.gradient_cosine:.7f} and norms that differ by {found.norm_difference:.1e}."
    )
    for name, value in facts.items():
        print(f"  {name:18} {value}")
    measuring.write_json(figures(rows, found) | facts)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv, (NoPeer, Disagreement, worker.WorkerFailed)))
