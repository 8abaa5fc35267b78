"""Shipped weights come with a card, whose numbers are those of docs/results.md."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(file.parent for file in (ROOT / "draw_jax/pretrained").glob("*/config.json"))


def names(folder):
    return folder.name


def test_weights_are_shipped():
    assert SHIPPED


@pytest.mark.parametrize("folder", SHIPPED, ids=names)
def test_a_cards_numbers_are_those_of_the_results(folder):
    card, results = (folder / "card.md").read_text(), (ROOT / "docs/results.md").read_text()
    measured = set(re.findall(r"\d+\.\d{2}\b", card))
    assert len(measured) >= 5
    missing = {number for number in measured if not re.search(rf"\b{re.escape(number)}\b", results)}
    assert not missing


@pytest.mark.parametrize("folder", SHIPPED, ids=names)
def test_a_card_tells_the_sizes_of_its_model_and_how_to_use_it(folder):
    card = (folder / "card.md").read_text()
    config = json.loads((folder / "config.json").read_text())
    model = config["model"]
    told = [f"Batch {config['train']['batch_size']}", f"--pretrained={folder.name} "]
    told += ["## Limits", "## Licence"]
    if "time_steps" in model:
        told.append(f"T = {model['time_steps']} ")
    if config["kind"] == "draw":
        told += [f"{model['enc_size']} units", f"{model['latent_size']} latent"]
        windows = ("read", "write")
    elif config["kind"] == "convnet":
        told += [f"{model['filters']} filters", f"{model['hidden_size']} units"]
        windows = ()
    else:
        told += [f"{model['lstm_size']} units"]
        windows = ("read",)
    for text in told:
        assert text in card, text
    for kind in windows:
        size = model[f"{kind}_size"]
        without = rf"no attention\sfor\s.*\b{kind[:4]}ing\b"  # as in "reading or writing"
        stated = rf"{kind} window\s{size}x{size}\b" if size else without
        assert re.search(stated, card), kind


def test_the_readmes_results_are_in_the_row_of_the_card_with_the_same_command():
    command = re.compile(r"`draw-jax (evaluate --pretrained=(\w+) --split=\w+)` \|$")
    lines = (ROOT / "README.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|") and command.search(line)]
    assert len(rows) >= 5
    for row in rows:
        asked, name = command.search(row).groups()
        card = (ROOT / "draw_jax/pretrained" / name / "card.md").read_text()
        (there,) = [line for line in card.splitlines() if f"`draw-jax {asked}` |" in line]
        told = re.findall(r"\d+\.\d{2,3}\b", row)
        assert told and set(told) <= set(re.findall(r"\d+\.\d{2,3}\b", there)), row
