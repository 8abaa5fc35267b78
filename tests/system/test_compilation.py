"""A second start takes what the first has compiled, whatever has happened to it meanwhile."""

import os
from pathlib import Path

import pytest

from draw_jax.runs.metrics import MetricsFile
from draw_jax.system import compilation
from tests.helpers import FAST_COMPILING, NO_ATTENTION, SMALL, program

KEEP = (
    "import jax\nfrom draw_jax.system import compilation\n"
    "compilation.keep()\nprint(jax.config.jax_compilation_cache_dir)"
)


def succeed(name, *flags, **environment):
    """Runs a program to its good end."""
    done = program(name, *flags, XLA_FLAGS=FAST_COMPILING, **environment)
    assert done.returncode == 0, done.stderr
    return done


def train(tmp_path, name, **environment):
    """Runs a short training into tmp_path/name and returns (the process, its metrics)."""
    fields = SMALL | NO_ATTENTION | {"train.num_steps": 2, "train.eval_every": 2}
    done = succeed(
        *("train.py", "--config=smoke", f"--workdir={tmp_path / name}"),
        *(f"--config.{field}={value}" for field, value in fields.items()),
        **environment,
    )
    rows = MetricsFile(tmp_path / name / "metrics.jsonl").rows()
    for row in rows:
        row.pop("images_per_second", None)
    return done, rows


@pytest.mark.slow
def test_later_starts_take_what_the_first_has_compiled_and_compute_the_same(tmp_path):
    def entries():
        files = (tmp_path / "cache" / "draw_jax" / "compiled").rglob("*-cache")
        return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}

    def start(name):
        done, rows = train(tmp_path, name, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert "compil" not in done.stderr and "cache" not in done.stderr
        return rows, entries()

    metrics, first = start("first")
    assert len(first) > 5  # the many small ones, too
    assert any(file.name.startswith("jit_update") for file in first)
    assert start("second") == (metrics, first)  # none missed, none written again
    for file, (size, _) in first.items():  # as a kill or a full disk leaves them
        os.truncate(file, size // 2)
    again, mended = start("third")
    assert again == metrics
    assert mended.keys() == first.keys()
    assert all(mended[file][0] > 0.9 * size for file, (size, _) in first.items())

    # In sizes that the training has not used.
    for script in (
        ("evaluate.py", "--batch_size=7"),
        ("sample.py", "--kind=samples", "--rows=3", f"--out={tmp_path}"),
    ):
        workdir = f"--workdir={tmp_path / 'first'}"
        succeed(*script, workdir, XDG_CACHE_HOME=str(tmp_path / "cache"))
        before, mended = mended, entries()
        assert mended.keys() > before.keys()


def run(code, **environment):
    """Returns what Python, in a process of its own, prints and complains of."""
    done = succeed("-c", code, **environment)
    return done.stdout.strip(), done.stderr


def test_only_what_jax_could_not_write_is_dropped(tmp_path):
    code = """
import jax, pathlib, warnings
from draw_jax.runs.metrics import MetricsFile
from draw_jax.system import compilation
compilation.keep()
folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
for name in ("jit_update", "jit_updates", "jit_loss"):
    (folder / f"{name}-1234-cache").touch()
warnings.warn("Error writing persistent compilation cache entry for 'jit_update': OSError: full")
warnings.warn("another matter")
print(*sorted(file.name for file in folder.iterdir()))
"""
    kept, complaints = run(code, XDG_CACHE_HOME=str(tmp_path))
    assert kept == "jit_loss-1234-cache jit_updates-1234-cache"
    assert "another matter" in complaints and "persistent" not in complaints


PROGRAM = KEEP + "\nprint(jax.jit(lambda x: x + 1)(1), jax.jit(lambda x: x * 2)(1))"


def test_a_second_start_writes_nothing_anew_and_mends_what_is_damaged(tmp_path):
    def entries():
        found = tmp_path.rglob("*-cache")
        return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in found}

    printed = run(PROGRAM, XDG_CACHE_HOME=str(tmp_path))
    assert printed[1] == ""
    first = entries()
    assert len(first) >= 1  # however small
    assert run(PROGRAM, XDG_CACHE_HOME=str(tmp_path)) == printed and entries() == first
    for file, (size, _) in first.items():  # as a kill or a full disk leaves them
        os.truncate(file, size // 2)
    # The first start after the damage drops what it cannot read, and may write it only then.
    for _ in range(2):
        assert run(PROGRAM, XDG_CACHE_HOME=str(tmp_path)) == printed
    mended = entries()
    assert mended.keys() == first.keys()
    assert all(mended[file][0] > 0.9 * size for file, (size, _) in first.items())


def test_a_place_that_cannot_be_written_or_is_no_place_keeps_nothing():
    for place in (os.devnull, f"{os.devnull}/below"):
        assert run(KEEP, XDG_CACHE_HOME=place) == ("None", "")


@pytest.mark.slow
def test_a_place_that_cannot_be_written_costs_only_the_quick_start(tmp_path):
    done, rows = train(tmp_path, "run", XDG_CACHE_HOME=os.devnull)
    assert len(rows) == 2
    assert "persistent" not in done.stderr


def test_a_folder_is_for_one_kind_of_processor(monkeypatch):
    def name(described):
        monkeypatch.setattr(Path, "read_text", lambda _: described)
        return compilation._machine()

    one = "processor : 0\nmodel name : A\ncpu MHz : 1000\nflags : avx2\n\nprocessor : 1\n"
    assert name(one) == name(one.replace("1000", "1200"))
    names = [name(one), name(one.replace("avx2", "avx512")), name(one.replace("A", "B"))]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1000), raising=False)
    assert len({*names, name(one)}) == 4


def test_a_user_without_a_home_starts_without_a_cache():
    code = (
        "import os, pwd\n"
        "os.environ.pop('HOME'); os.environ.pop('XDG_CACHE_HOME', None)\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n" + KEEP
    )
    assert run(code) == ("None", "")


def test_jax_can_be_told_to_keep_nothing(tmp_path):
    code = KEEP + "\njax.jit(lambda x: x + 1)(1)"
    run(code, XDG_CACHE_HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
    run(code, XDG_CACHE_HOME=str(tmp_path))
    assert [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_place_of_the_users_own_is_left_alone(tmp_path):
    assert run(KEEP, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == (str(tmp_path), "")
    ours, _ = run(KEEP, JAX_COMPILATION_CACHE_DIR="", XDG_CACHE_HOME=str(tmp_path))
    assert Path(ours).is_relative_to(tmp_path)  # an empty name is none
