"""Runs of every command on a disk that fills up at a random point, then gets room.

A case gives a small file system of its own (a tmpfs) to a run directory or to what a command writes
besides, and lets the command meet its end there. Promised is:

- the command ends by itself, without a traceback; where it fails, in one line that names what cannot
  be written;
- every checkpoint on the disk is sound, also after the same command has failed there again, and none
  is gone but for a newer one;
- once there is room, the same command succeeds, and a run's metrics and arrays are, bit for bit, those of
  a run that was never disturbed.

    python -m tests.campaigns.full_disk --cases=40

It mounts file systems: as root, or, by `unshare -rm`, in a name space of its own.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from draw_jax.runs import checkpoint, stored
from tests.campaigns import campaign
from tests.campaigns.campaign import Broken, Ended
from tests.campaigns.undisturbed import check_same, training, undisturbed
from tests.helpers import ROOT

_PAGE = 4096  # the least that a file takes there
_ROOM = "size=64M,nr_inodes=0"
_SECONDS = 90.0  # ten times what a command takes on an idle machine
_AGAIN = "DRAW_JAX_FULL_DISK"  # set in the name space where mounting is allowed
# What lies on the full disk, and the pages that would be enough.
_PLACES = {
    "run": 220,
    "run and caches": 400,
    "TMPDIR": 10,
    "XDG_CACHE_HOME": 25,
    "JAX_COMPILATION_CACHE_DIR": 150,
    "stdout": 1,
    "stdout and stderr": 1,
    "sample": 60,
    "sample's stdout": 1,
    "evaluate": 2,
    "evaluate's stdout": 1,
    "export": 6,
}
_WEIGHTS = [12, 4, *[2] * (len(_PLACES) - 2)]


class Disk(NamedTuple):
    """A small one."""

    place: str  # what lies on it, of `_PLACES`
    pages: int  # free in the beginning
    left: int = 0  # bytes that standard output may still take, where that lies on it
    files: int = 0  # how many it may hold; 0: any number


def play(rng: random.Random, folder: Path) -> str:
    """Fills one disk, makes room, and returns how it went."""
    (place,) = rng.choices(list(_PLACES), _WEIGHTS)
    pages, left = rng.randrange(_PLACES[place]), rng.randrange(300)
    files = rng.randrange(4, 4 + _PLACES[place]) if rng.random() < 0.2 else 0
    if files:
        pages = 10_000
    return play_disk(Disk(place, pages, left, files), folder, again=rng.random() < 0.3)


def play_disk(small: Disk, folder: Path, again: bool = False) -> str:
    """Plays one case and returns how it went.

    Args:
        small: the disk.
        folder: an empty one.
        again: whether the command is tried twice before there is room.

    Raises:
        Broken: if a promise is broken.
    """
    place, disk = small.place, folder / "disk"
    with mounted(small, disk):
        words, made = _words(place, folder, disk)
        first = _try(words, place, disk, made)
        found = _sound_steps(made)
        if again and first.code:
            _try(words, place, disk, made)
            left = _sound_steps(made)
            if max(found, default=0) > max(left, default=0):
                raise Broken(f"of the checkpoints {found}, {left} are left")
        subprocess.run(["mount", "-o", f"remount,{_ROOM}", str(disk)], check=True)
        last = _run(words, place, disk)
        if last.code or last.err:
            raise Broken(f"with room, after {small}: exit code {last.code}: {last.err}")
        _check_made(words, made)
    ended = "goes on without" if "goes on without" in first.out + first.err else "finishes"
    return f"{place}: {f'one line, exit code {first.code}' if first.code else ended}"


@contextlib.contextmanager
def mounted(small: Disk, place: Path) -> Iterator[None]:
    """Mounts a small disk, with one file in its last page, until its end."""
    place.mkdir()
    size = f"size={(small.pages + 1) * _PAGE},nr_inodes={small.files}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        (place / "out").write_text("#" * (_PAGE - small.left))
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def may_mount() -> bool:
    """Returns whether this process may mount file systems."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "tmpfs", folder]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


def _words(place: str, folder: Path, disk: Path) -> tuple[list[str], Path]:
    """Returns a command line, and the run or file that it writes."""
    if place.startswith("sample"):
        out = disk if place == "sample" else folder
        words = ["sample.py", "--rows=2", "--columns=2", f"--workdir={undisturbed().run}"]
        return [*words, f"--out={out / 'samples'}"], out / "samples"
    if place.startswith("evaluate"):
        result = (disk if place == "evaluate" else folder) / "result.json"
        return ["evaluate.py", f"--workdir={undisturbed().run}", f"--json={result}"], result
    if place == "export":
        words = ["-m", "draw_jax", "export", f"--workdir={undisturbed().run}"]
        return [*words, f"--out={disk / 'weights'}"], disk / "weights"
    run = (disk if place.startswith("run") else folder) / "run"
    return training(run), run


def _run(words: list[str], place: str, disk: Path) -> Ended:
    """Runs the command to its end, with what the case has on the disk."""
    undisturbed()  # which has what XLA compiled shared
    environment: dict[str, str] = {}
    if place == "run and caches":
        environment |= {"XDG_CACHE_HOME": str(disk / "caches"), "TMPDIR": str(disk)}
        environment["JAX_COMPILATION_CACHE_DIR"] = ""  # that of draw_jax, then
    elif place in ("TMPDIR", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        environment[place] = str(disk)
    if "stdout" not in place:
        return campaign.run(words, _SECONDS, **environment)
    with (disk / "out").open("a") as out:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=out,
            stderr=out if "stderr" in place else subprocess.PIPE,
            text=True,
        )
        try:
            code, err = process.wait(_SECONDS), process.stderr.read() if process.stderr else ""
        except subprocess.TimeoutExpired:
            process.kill()
            raise Broken(f"still running after {_SECONDS:g} s") from None
    text = (disk / "out").read_text()
    if "Traceback" in text + err or code not in campaign.EXIT_CODES:
        raise Broken(f"exit code {code}: {text[-300:]} {err}")
    return Ended(code, text, err)


def _try(words: list[str], place: str, disk: Path, made: Path) -> Ended:
    """Runs the command on the full disk and checks what it says."""
    ended = _run(words, place, disk)
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    others = [line for line in lines if not line.startswith(("error: ", "warning: "))]
    if others or len(errors) != bool(ended.code and place != "stdout and stderr"):
        raise Broken(f"exit code {ended.code} with these lines: {ended.err}")
    names = ("standard output",) if "stdout" in place else (str(disk),)
    if errors and not any(name in errors[0] for name in names):
        raise Broken(f"a line that names no file: {errors[0]}")
    if made.name == "run" and not place.startswith("run") and ended.code:
        raise Broken(f"the run was ended by what it does not need: {ended.err}")
    if "damaged" in ended.out + ended.err:
        raise Broken(f"a full disk is no damage: {ended.out}")
    return ended


def _sound_steps(run: Path) -> list[int]:
    """Returns the checkpoints of a run, all of which must be sound."""
    steps = stored.steps(run / "checkpoints")
    try:
        for step in steps:
            stored.read(run / "checkpoints", step, ["params", "average", "optimizer"])
        if steps:
            checkpoint.load(run)
    except checkpoint.CheckpointError as error:
        raise Broken(f"of the checkpoints {steps}: {error}") from None
    return steps


def _check_made(words: list[str], made: Path) -> None:
    """Checks what the command has written once there was room."""
    if made.name == "run":
        check_same(made, undisturbed().run)
    if words[0] == "evaluate.py":
        json.loads(made.read_text())
    elif not any(made.iterdir()):
        raise Broken(f"{made} is empty")
    if torn := [str(path) for path in made.parent.rglob("*.tmp")]:
        raise Broken(f"these are left: {torn}")


def _main() -> int:
    if may_mount():
        return campaign.main("full_disk", play, cases=40)
    if _AGAIN not in os.environ and shutil.which("unshare"):
        words = ["unshare", "-rm", sys.executable, "-m", "tests.campaigns.full_disk", *sys.argv[1:]]
        done = subprocess.run(words, check=False, env=os.environ | {_AGAIN: "1"})
        if done.returncode in (0, 1, 2):
            return done.returncode
    print("error: full_disk mounts file systems, which this user may not", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(_main())
