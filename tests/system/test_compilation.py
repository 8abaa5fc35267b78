"""A second start takes what the first has compiled, whatever has happened to it meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

from draw_jax.system import compilation

ROOT = Path(__file__).parents[2]
KEEP = (
    "import jax\nfrom draw_jax.system import compilation\n"
    "compilation.keep()\nprint(jax.config.jax_compilation_cache_dir)"
)


def python(*arguments, **environment):
    """Runs Python in a process of its own, to its good end."""
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done


def train(tmp_path, name, **environment):
    """Runs a short training into tmp_path/name and returns (the process, its metrics)."""
    fields = ("train.num_steps=2", "model.enc_size=8", "train.eval_every=2")
    done = python(
        *("train.py", "--config=configs/smoke.py", f"--workdir={tmp_path / name}"),
        *(f"--config.{field}" for field in fields),
        **environment,
    )
    rows = [
        json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    ]
    for row in rows:
        row.pop("images_per_second", None)
    return done, rows


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
        python(*script, workdir, XDG_CACHE_HOME=str(tmp_path / "cache"))
        before, mended = mended, entries()
        assert mended.keys() > before.keys()


def run(code, **environment):
    """Returns what Python, in a process of its own, prints and complains of."""
    done = python("-c", code, **environment)
    return done.stdout.strip(), done.stderr


def test_only_what_jax_could_not_write_is_dropped(tmp_path):
    code = """
import jax, pathlib, warnings
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


def test_a_place_that_cannot_be_written_costs_only_the_quick_start(tmp_path):
    done, rows = train(tmp_path, "run", XDG_CACHE_HOME=os.devnull)
    assert len(rows) == 2
    assert "persistent" not in done.stderr
    assert run(KEEP, XDG_CACHE_HOME=os.devnull) == ("None", "")


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
