"""The training update of two versions, in turn: python -m benchmarks.before_after --old=main.

"old" is a revision of the git repository, unpacked into a temporary folder; "new" is the work tree
with its uncommitted changes. Each runs in its own process, with its own configuration file of the
name given by --config, and both make their updates on the same images of noise. One waits while
the other runs, and the order is reversed every other round, so that a machine whose speed drifts
slows both alike: trust the ratio, not the milliseconds. Any old version works that has
`benchmarks/train_step.py` with `make_step` and `updates`.

The losses of the first updates show whether both versions compute the same.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from benchmarks import measuring, worker
from benchmarks.worker import Worker
from draw_jax.system import cli, pages

_OLD = flags.DEFINE_string("old", "", "The revision to compare with: a commit, branch or tag")
_UPDATES = flags.DEFINE_integer("updates", 3, "Updates of a version in a round", lower_bound=1)
flags.adopt_module_key_flags(measuring)

ROOT = Path(__file__).resolve().parents[1]
_REST = 0.1  # seconds between the versions, as threads spin for a while after their work


class NoRepository(Exception):
    """There is no git, or the project lies in no repository."""


def git(*arguments: str, root: Path = ROOT) -> str:
    """Returns what a git command prints.

    Raises:
        NoRepository: git is not installed, or `root` lies in no repository.
        subprocess.CalledProcessError: git refused.
    """
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        raise NoRepository("git is not installed; it is needed for --old") from None
    except subprocess.CalledProcessError as error:
        if "not a git repository" in error.stderr:
            raise NoRepository(f"{root} is in no git repository, so there is no --old") from None
        raise


def find_commit(revision: str, root: Path = ROOT) -> str:
    """Returns the short name of the commit that a revision means.

    Raises:
        ValueError: no commit is called so.
        NoRepository: as `git` says.
    """
    if not revision:
        raise ValueError("which version is the old one? Such as --old=HEAD")
    try:
        return git(
            "rev-parse", "--verify", "--quiet", "--short", f"{revision}^{{commit}}", root=root
        )
    except subprocess.CalledProcessError:
        raise ValueError(f"--old: the repository has no revision {revision!r}") from None


@contextlib.contextmanager
def unpacked(commit: str, root: Path = ROOT) -> Iterator[Path]:
    """Gives a temporary folder with the files of a commit; the repository is left as it is."""
    with tempfile.TemporaryDirectory() as folder:
        archive, files = Path(folder, "version.zip"), Path(folder, "version")
        git("archive", "--format=zip", f"--output={archive}", commit, root=root)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(files)
        yield files


def config_arguments() -> list[str]:
    """Returns --config and its fields; a file of this project by its path within a version."""
    path, *fields = measuring.config_flags_with({})
    file = Path(config_flags.get_config_filename(flags.FLAGS["config"])).resolve()
    if file.is_relative_to(ROOT):
        path = f"--config={file.relative_to(ROOT)}"
    return [path, *fields]


def started(
    name: str, root: Path, arguments: Sequence[str]
) -> contextlib.AbstractContextManager[Worker]:
    """Gives the version in a folder at work, still compiling, and ends it afterwards."""
    ours = os.environ.get(pages.VARIABLE) == pages.VALUE  # a version that wants it asks for it
    environment = {k: v for k, v in os.environ.items() if not (ours and k == pages.VARIABLE)} | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")])),
        # Two processes share a GPU: neither may take most of its memory at once.
        "XLA_PYTHON_CLIENT_PREALLOCATE": os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "false"),
    }
    program = Path(__file__).with_name("one_version.py")
    return worker.started(name, [sys.executable, "-P", str(program), *arguments], environment, root)


def alternate(versions: Mapping[str, Worker], rounds: int, count: int) -> dict[str, list[float]]:
    """Returns the milliseconds of an update of each version in each round.

    The versions take turns, in reverse order every other round. A first round does not count.

    Args:
        versions: two of them, or more.
        rounds: how many count.
        count: updates that a version makes in a round.
    """
    times: dict[str, list[float]] = {name: [] for name in versions}
    for round_number in range(rounds + 1):
        for name in list(versions)[:: -1 if round_number % 2 else 1]:
            time.sleep(_REST)
            worker.ask(versions[name], str(count))
            took = worker.answer(versions[name])
            if round_number:
                times[name].append(1e3 * took / count)
    return times


def measure(
    roots: Mapping[str, Path], arguments: Sequence[str], rounds: int, count: int
) -> tuple[dict[str, list[float]], dict[str, dict[str, Any]]]:
    """Returns the milliseconds of an update and the first facts of the versions in some folders.

    Raises:
        worker.WorkerFailed: one of them cannot be measured.
    """
    with contextlib.ExitStack() as stack:
        versions = {
            name: stack.enter_context(started(name, root, arguments))
            for name, root in roots.items()
        }
        facts = {name: worker.answer(version) for name, version in versions.items()}
        return alternate(versions, rounds, count), facts


def figures(
    times: Mapping[str, Sequence[float]], losses: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Returns what --json writes; the ratio is new / old, its spread that over the rounds.

    Args:
        times: milliseconds of "old" and "new" in every round.
        losses: of the first updates of both, nats per image.
    """
    ratios = [b / a for a, b in zip(times["old"], times["new"], strict=True)]
    return {
        "old_ms": statistics.median(times["old"]),
        "new_ms": statistics.median(times["new"]),
        "ratio": measuring.spread(ratios),
        "old_losses": list(losses["old"]),
        "new_losses": list(losses["new"]),
        "same_losses": list(losses["old"]) == list(losses["new"]),
    }


def told_losses(old: Sequence[float], new: Sequence[float]) -> str:
    """Returns in one line whether the first losses of the two versions are the same."""
    if list(old) == list(new):
        return f"The losses of the first {len(old)} updates agree to the last digit."
    pairs = enumerate(zip(old, new, strict=True), start=1)
    update, (a, b) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    return f"The losses differ from update {update} on: old {a!r}, new {b!r} nats."


def main() -> int:
    """Prints the table and returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(cli.ERROR))  # so that the folder is removed
    rounds, count = measuring.REPEATS.value, _UPDATES.value
    commit = find_commit(_OLD.value)
    here = git("describe", "--always", "--dirty", "--exclude=*")
    with unpacked(commit) as old:
        times, facts = measure({"old": old, "new": ROOT}, config_arguments(), rounds, count)
    result = figures(times, {name: fact["losses"] for name, fact in facts.items()})
    cells = [
        [f"old ({commit})", str(measuring.spread(times["old"])), "1"],
        [f"new ({here})", str(measuring.spread(times["new"])), str(result["ratio"])],
    ]
    names = ["version", "update, ms (10 to 90 %)", "new / old, by round (10 to 90 %)"]
    print(measuring.table(names, cells))
    print(told_losses(result["old_losses"], result["new_losses"]))
    shared = {"rounds": rounds, "updates": count, "batch": facts["new"]["batch"]}
    shared |= {"old": commit, "new": here, "device": facts["new"]["device"]}
    for name, value in shared.items():
        print(f"  {name:18} {value}")
    measuring.write_json(measuring.flat(result) | shared)
    return 0


if __name__ == "__main__":
    sys.exit(
        cli.run(main, sys.argv, (NoRepository, worker.WorkerFailed, subprocess.CalledProcessError))
    )
