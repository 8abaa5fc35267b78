import os
import subprocess
import sys
from pathlib import Path

import pytest

from draw_jax.system import pages

MADVISE = "always [madvise] never\n"


@pytest.mark.parametrize(
    ("environment", "kernel", "library", "expected"),
    [
        ({}, MADVISE, "glibc 2.36", True),
        ({}, MADVISE, "glibc 2.35", True),
        ({}, MADVISE, "glibc 3.0", True),
        ({}, MADVISE, "glibc 2.34", False),
        ({}, MADVISE, "musl 1.2", False),
        ({}, MADVISE, "", False),
        ({}, "[always] madvise never\n", "glibc 2.36", False),
        ({}, "always madvise [never]\n", "glibc 2.36", False),
        ({"GLIBC_TUNABLES": ""}, MADVISE, "glibc 2.36", False),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, MADVISE, "glibc 2.36", False),
    ],
)
def test_large_pages_are_asked_for_where_they_can_be_had(environment, kernel, library, expected):
    assert pages.can_gain(environment, kernel, library) == expected


@pytest.mark.parametrize(
    ("started", "arguments", "expected"),
    [
        ("python train.py --config=x", "train.py --config=x", True),
        ("python -u ./train.py --config=x", "./train.py --config=x", True),
        ("python /venv/bin/draw-jax train", "/venv/bin/draw-jax train", True),
        ("python -m draw_jax train", "/lib/draw_jax/__main__.py train", True),
        ("python -m benchmarks.peers --repeats=3", "-m --repeats=3", True),
        ("python -m pdb train.py --config=x", "train.py --config=x", True),
        ("python /venv/bin/ipython", "train.py", False),
        ("python -m IPython", "train.py", False),
        ("python -m ipykernel_launcher -f kernel.json", "train.py --config=x", False),
        ("python -m pytest tests", "/lib/pytest/__main__.py tests", False),
        ("python", "train.py --config=x", False),
    ],
)
def test_only_a_program_of_ours_starts_again(started, arguments, expected):
    assert pages.is_program(started.split(), arguments.split()) == expected


def test_a_program_starts_again_as_the_same_process(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from draw_jax.system import pages\n"
        "pages.use_large_pages()\n"
        "print(os.getpid(), os.environ.get(pages.VARIABLE), *sys.argv[1:], sep='|')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != pages.VARIABLE}
    words = [sys.executable, str(program), "one two", ""]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(words, env=environment, cwd=root, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=60)
    kernel = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    library = os.confstr("CS_GNU_LIBC_VERSION") if hasattr(os, "confstr") else ""
    gains = kernel.exists() and pages.can_gain(environment, kernel.read_text(), library)
    value = pages.VALUE if gains else None
    assert said == f"{process.pid}|{value}|one two|\n"
