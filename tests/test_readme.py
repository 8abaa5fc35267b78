"""README.md and docs/: what they show is there, what they tell to run runs."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from draw_jax import __main__, configs
from tests.test_architecture import ORDER

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    """Returns the code blocks of the README in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def section(title):
    """Returns the text below a heading of the README."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return text


def test_the_python_snippet_runs_where_nothing_was_trained(tmp_path):
    (snippet,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        check=False,
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "digits.png") as picture:
        assert picture.size == (8 * 28, 28)
        darkest, brightest = picture.convert("L").getextrema()
        assert darkest < 30 and brightest > 225  # strokes on a black ground


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    assert targets
    for target in targets:
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        file = page.parent / place if place else page
        assert file.exists(), target
        assert not anchor or file.suffix != ".md" or anchor in anchors(file), target


def anchors(page):
    """Returns what headings are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_figure_is_shown():
    shown = {Path(t).name for page in PAGES for t in re.findall(r"\]\(([^)]+)\)", page.read_text())}
    assert {f.name for f in (ROOT / "docs/figures").iterdir()} <= shown


def test_figures_are_quick_to_load():
    for file in (ROOT / "docs/figures").iterdir():
        assert file.stat().st_size < (1_200_000 if file.suffix == ".webp" else 600_000), file.name


def test_the_tree_names_the_folders_in_the_order_of_their_imports():
    text = section("How it is built")
    (tree,) = re.findall(r"^```\ndraw_jax/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    named = re.findall(r"^  (\w+)/ ", tree, re.MULTILINE)
    there = {p.name for p in (ROOT / "draw_jax").iterdir() if p.is_dir() and p.name[0] != "_"}
    assert len(named) == len(set(named)) and set(named) == there
    assert [name for name in named if name in ORDER] == [name for name in ORDER if name in there]


def test_the_tables_name_every_command_and_every_configuration():
    commands = re.findall(r"^\| `draw-jax (\w+)", section("Commands"), re.MULTILINE)
    assert commands == list(__main__.COMMANDS)
    named = re.findall(r"^\| \[`(\w+)`\]\(configs/\1\.py\)", section("Training"), re.MULTILINE)
    assert sorted(named) == configs.names()


@pytest.mark.parametrize("name", configs.names())
def test_the_table_of_configurations_tells_their_sizes(name):
    config = importlib.import_module(f"draw_jax.configs.{name}").get_config()
    model = config.model
    (row,) = [line for line in README.splitlines() if line.startswith(f"| [`{name}`]")]
    if "dec_size" not in model:  # it draws nothing
        size = f"{config.data.size}x{config.data.size}, {config.data.clutter or 'no'} crops"
        steps = str(model.time_steps) if "time_steps" in model else "-"
        assert [cell.strip() for cell in row.split("|")[3:5]] == [size, steps]
        return
    windows = [f"{n}x{n}" if n else "-" for n in (model.read_size, model.write_size)]
    sizes = [f"{model.time_steps}", f"{model.enc_size}/{model.dec_size}", f"{model.latent_size}"]
    assert [cell.strip() for cell in row.split("|")[3:-1]] == [*sizes, *windows]


def test_ci_finds_two_set_up_commands():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert len(lines) == 2
    assert "train.py --config=configs/digits.py" in lines[0] and lines[1].endswith("/pytest")
