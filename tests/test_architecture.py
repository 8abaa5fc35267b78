"""The rooms of the package, what each may import, and what importing the package costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "draw_jax").glob("*.py"))
MAX_LINES = 320

FIGURES = {"figures", "filmstrips", "animations", "plots", "filter_plots"}
# Every room of the package and every script, and the rooms that it may import. A new file needs a
# line here: say where it belongs before it grows roots.
MAY_IMPORT = {
    "attention": set(),
    "losses": set(),
    "sampling": set(),
    "latents": {"sampling"},
    "logs": set(),
    "cli": set(),
    "compilation": set(),
    "figures": set(),
    "filmstrips": {"figures"},
    "animations": {"figures", "filmstrips"},
    "plots": {"figures"},
    "filter_plots": {"figures", "plots"},
    "pictures": {"attention", "sampling", "latents"} | FIGURES,
    "filters": {"attention", "cli", "datasets"} | FIGURES,
    "layers": set(),
    "model": {"attention", "losses", "layers"},
    "build": {"model"},
    "data": {"datasets"},
    "datasets": {"datasets"},
    "leaves": set(),
    "checkpoint": {"build", "leaves"},
    "evaluation": {"attention", "losses"},
    "optimization": {"build", "data"},
    "runs": {"checkpoint", "sampling"} | FIGURES,
    "stopping": {"evaluation"},
    "training": {
        "build",
        "checkpoint",
        "data",
        "evaluation",
        "logs",
        "optimization",
        "runs",
        "sampling",
        "stopping",
    },
    "__init__": {"checkpoint"},
    "train.py": {"training", "cli", "compilation", "checkpoint", "data", "runs"},
    "sample.py": {"checkpoint", "data", "attention", "sampling", "pictures", "cli", "compilation"}
    | FIGURES,
    "evaluate.py": {"build", "checkpoint", "data", "evaluation", "cli", "compilation"},
}
# Code that runs a model and knows nothing of files, flags or data sets.
PURE = {"attention", "losses", "sampling", "latents", "model"}


def imported(file):
    """Returns the modules that a file imports anywhere in it, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: expected absolute imports"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(file):
    """Returns the rooms of draw_jax that a file imports; `draw_jax.build.keys` is of `build`."""
    parts = [name.split(".") for name in imported(file)]
    return {part[1] if len(part) > 1 else "__init__" for part in parts if part[0] == "draw_jax"}


def files():
    """Returns each file of the package and each script with its name in MAY_IMPORT."""
    for file in PACKAGE:
        yield file.stem, file
    for file in sorted((ROOT / "draw_jax").glob("*/**/*.py")):
        yield file.relative_to(ROOT / "draw_jax").parts[0], file
    for file in sorted(ROOT.glob("*.py")):
        yield file.name, file


def test_the_scan_sees_every_form_of_import(tmp_path):
    file = tmp_path / "room.py"
    file.write_text(
        "import os\nimport draw_jax.logs\nfrom draw_jax import model as m\n"
        "def f():\n    from draw_jax.build import keys\n    import draw_jax\n"
    )
    assert imported(file) >= {"os", "draw_jax.logs", "draw_jax.model", "draw_jax.build.keys"}
    assert rooms(file) == {"logs", "model", "build", "__init__"}


@pytest.mark.parametrize(("name", "file"), [pytest.param(*f, id=f[1].name) for f in files()])
def test_rooms_import_only_what_they_may(name, file):
    assert name in MAY_IMPORT, f"{file.name} has no line in MAY_IMPORT"
    assert rooms(file) <= MAY_IMPORT[name]
    outside = {n.split(".")[0] for n in imported(file)} & {"configs", "tests", "benchmarks"}
    assert not outside
    scripts = {n.split(".")[0] for n in imported(file)} & {"train", "sample", "evaluate"}
    assert not scripts


def test_only_train_py_imports_training():
    importers = {file.name for _, file in files() if "training" in rooms(file)}
    assert importers == {"train.py"}


def test_no_room_imports_itself_round_a_corner():
    graph = {name: rooms(file) - {name} for name, file in files()}
    done = set()
    while graph:
        ready = {name for name, needs in graph.items() if needs <= done | {"datasets"}}
        assert ready, f"a circle among {sorted(graph)}"
        done |= ready
        graph = {name: needs for name, needs in graph.items() if name not in ready}


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_rooms_import_no_files_flags_or_clocks(name):
    modules = {n.split(".")[0] for n in imported(ROOT / "draw_jax" / f"{name}.py")}
    known = {"jax", "flax", "numpy", "optax", "typing", "functools", "collections", "draw_jax"}
    assert modules <= known


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.py")), ids=lambda f: f.stem)
def test_configs_import_ml_collections_and_configs_only(file):
    assert {name.split(".")[0] for name in imported(file)} <= {"ml_collections", "configs"}


@pytest.mark.parametrize("file", PACKAGE, ids=lambda f: f.stem)
def test_a_file_past_320_lines_wants_to_be_two(file):
    assert len(file.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("file", [f for _, f in files()], ids=lambda f: f.name)
def test_public_things_have_a_docstring(file):
    tree = ast.parse(file.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{file.name} has no docstring"
    missing = []

    def look(node, where):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{where}{child.name}"
                special = child.name.startswith("__") and child.name.endswith("__")
                if child.name.startswith("_") and not special:
                    continue
                if not special and not ast.get_docstring(child):
                    missing.append(name)
                if isinstance(child, ast.ClassDef):
                    look(child, f"{name}.")

    look(tree, "")
    assert not missing


@pytest.mark.parametrize("module", ["draw_jax", "draw_jax.training"])
def test_importing_the_package_brings_no_tensorflow(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(heavy & {'tensorflow', 'tensorflow_datasets'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
