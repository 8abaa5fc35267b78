"""The order of the folders, what importing the package costs, and the size of its files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A folder imports only from itself and from those after it. `configs` are plain files of fields.
ORDER = [
    *("commands", "studies", "training", "evaluation", "drawing", "runs", "data", "model"),
    *("system", "configs"),
]
PURE = {
    *(
        "math",
        "jax",
        "flax",
        "numpy",
        "optax",
        "typing",
        "functools",
        "collections",
        "dataclasses",
        "draw_jax",
    ),
    *("contextlib", "contextvars"),
}
PACKAGE = sorted((ROOT / "draw_jax").rglob("*.py"))
SCRIPTS = sorted(ROOT.glob("*.py"))
MAX_LINES, MAX_FILES = 320, 10


def name(file):
    return str(file.relative_to(ROOT))


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


def folders(names):
    """Returns the folders of draw_jax among dotted names; `draw_jax.load` lies in none."""
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == "draw_jax" and len(p) > 1 and p[1] in ORDER}


def test_the_scan_sees_every_form_of_import(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "import os\nimport draw_jax.runs.metrics\nfrom draw_jax import model as m\n"
        "def f():\n    from draw_jax.data.splits import load\n    import draw_jax\n"
    )
    assert imported(file) >= {"os", "draw_jax.runs.metrics", "draw_jax.data.splits.load"}
    assert folders(imported(file)) == {"runs", "model", "data"}


def test_every_folder_has_its_place_in_the_order():
    found = {p.name for p in (ROOT / "draw_jax").iterdir() if any(p.glob("*.py"))}
    assert found <= set(ORDER)


@pytest.mark.parametrize("file", [f for f in PACKAGE if f.parent.name != "draw_jax"], ids=name)
def test_a_folder_imports_only_from_itself_and_from_those_after_it(file):
    folder = file.relative_to(ROOT / "draw_jax").parts[0]
    above = set(ORDER[: ORDER.index(folder)])
    assert not folders(imported(file)) & above
    outside = {"tests", "benchmarks", "train", "sample", "evaluate"}
    assert not {n.split(".")[0] for n in imported(file)} & outside


@pytest.mark.parametrize("file", SCRIPTS, ids=name)
def test_a_script_is_a_few_lines_on_its_command(file):
    assert folders(imported(file)) == {"commands", "system"}
    code = [line for line in file.read_text().splitlines() if line and line[0] not in '#"']
    assert len(code) <= 12


@pytest.mark.parametrize(
    "file",
    [f for f in sorted((ROOT / "draw_jax/model").rglob("*.py")) if f.stem != "build"],
    ids=name,
)
def test_the_model_imports_no_files_flags_or_clocks(file):
    assert {n.split(".")[0] for n in imported(file)} <= PURE


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.py")), ids=lambda f: f.stem)
def test_configs_import_ml_collections_and_configs_only(file):
    allowed = {"ml_collections", "draw_jax"}
    assert {n.split(".")[0] for n in imported(file)} <= allowed
    assert folders(imported(file)) <= {"configs"}


@pytest.mark.parametrize("file", PACKAGE, ids=name)
def test_a_file_past_320_lines_wants_to_be_two(file):
    assert len(file.read_text().splitlines()) <= MAX_LINES


def test_a_folder_past_ten_files_wants_to_be_two():
    for folder in {file.parent for file in PACKAGE}:
        assert len([f for f in folder.glob("*.py") if f.stem != "__init__"]) <= MAX_FILES, folder


@pytest.mark.parametrize("file", [*PACKAGE, *SCRIPTS], ids=name)
def test_public_things_have_a_docstring(file):
    tree = ast.parse(file.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{file.name} has no docstring"
    missing = []

    def look(node, where):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                path = f"{where}{child.name}"
                special = child.name.startswith("__") and child.name.endswith("__")
                if child.name.startswith("_") and not special:
                    continue
                if not special and not ast.get_docstring(child):
                    missing.append(path)
                if isinstance(child, ast.ClassDef):
                    look(child, f"{path}.")

    look(tree, "")
    assert not missing


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("draw_jax", {"jax", "orbax", "matplotlib", "tensorflow_datasets"}),
        ("draw_jax.training.loop", {"tensorflow", "tensorflow_datasets"}),
    ],
)
def test_what_an_import_does_not_bring(module, heavy):
    code = f"import sys, {module}; print(*{{n.split('.')[0] for n in sys.modules}})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert not set(done.stdout.split()) & heavy


def test_short_names_are_the_modules_themselves():
    import draw_jax.attention
    import draw_jax.checkpoint
    import draw_jax.losses
    from draw_jax.model import attention, losses
    from draw_jax.runs import checkpoint

    assert draw_jax.attention is attention and draw_jax.losses is losses
    assert draw_jax.checkpoint is checkpoint and draw_jax.load is checkpoint.load
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        draw_jax.loda  # noqa: B018


def test_the_papers_models_come_from_the_models_folder_itself():
    from draw_jax import model
    from draw_jax.model.classifier import GlimpseClassifier
    from draw_jax.model.draw import Draw

    assert model.Draw is Draw and model.GlimpseClassifier is GlimpseClassifier
    assert set(model.__all__) == {"Draw", "GlimpseClassifier"}
