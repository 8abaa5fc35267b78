"""Weights that ship: written from a run, read by name or by folder, damage told."""

import jax
import numpy as np
import pytest

from draw_jax.model import build
from draw_jax.runs import checkpoint, export
from draw_jax.runs.leaves import CheckpointError, flatten
from tests.helpers import NO_ATTENTION, flip, small_config


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Returns (config, params) of weights that are shipped as `tiny`, in tmp_path/tiny."""
    config = small_config(**NO_ATTENTION | {"data.data_dir": "/mine", "data.manual_dir": "/mine"})
    model = build.build(config)
    params = jax.jit(lambda key: build.initial_variables(model, key))(jax.random.key(0))["params"]
    export.write(config, params, tmp_path / "tiny", "float32", "# tiny: for a test\n")
    monkeypatch.setattr(export, "FOLDER", tmp_path)
    return config, params


@pytest.mark.parametrize("by_name", [True, False])
def test_what_was_written_is_loaded_by_name_and_by_folder(shipped, tmp_path, by_name):
    where = "tiny" if by_name else tmp_path / "tiny"
    config, model, variables = checkpoint.load(where)
    assert config.data.data_dir == config.data.manual_dir == ""  # folders of one machine
    assert config.model.latent_size == 2 and model.latent_size == 2
    assert len(jax.tree.leaves(variables)) > 10
    jax.tree.map(np.testing.assert_array_equal, variables["params"], shipped[1])
    with pytest.raises(ValueError, match="--checkpoint: .* one set of weights, no checkpoint 5"):
        checkpoint.load(where, 5)


def test_names_are_of_folders_with_a_configuration_only(shipped, tmp_path):
    (tmp_path / "empty").mkdir()
    assert export.names() == ["tiny"]
    assert export.is_name("tiny") and not export.is_name("empty")
    assert not export.is_name(str(tmp_path / "tiny"))
    assert export.card("tiny") == "# tiny: for a test\n"


def test_half_the_precision_is_close_and_too_large_a_weight_is_refused(shipped, tmp_path):
    config, params = shipped
    export.write(config, params, tmp_path / "half", "float16", "")
    sizes = [(tmp_path / name / "weights.npz").stat().st_size for name in ("half", "tiny")]
    assert sizes[0] < 0.7 * sizes[1]
    half = checkpoint.load("half")[2]["params"]
    # 11 bits of the fraction, rounded; the smallest are below float16's normal range.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2**-11, 1e-7), half, params)
    with pytest.raises(ValueError, match="--dtype: .* holds values beyond float16; take float32"):
        export.write(config, {"w": np.array([1e6])}, tmp_path / "large", "float16", "")
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize("damage", ["empty", "a tenth", "half", "flipped", "an array", "gone"])
def test_damaged_weights_are_one_error_that_names_the_file(shipped, tmp_path, damage):
    file = tmp_path / "tiny" / "weights.npz"
    whole = file.read_bytes()
    if damage == "flipped":
        flip(file)
    elif damage == "an array":
        with file.open("wb") as opened:
            np.save(opened, np.zeros(3))
    elif damage == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[: {"empty": 0, "a tenth": len(whole) // 10}.get(damage, -999)])
    with pytest.raises(CheckpointError, match="'tiny' are damaged .*weights.npz is .*; inst"):
        checkpoint.load("tiny")


def test_a_damaged_configuration_says_what_to_do(shipped, tmp_path):
    (tmp_path / "tiny" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read: .*; install draw_jax again"):
        checkpoint.load("tiny")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_are_told_by_what_is_read_back(shipped, tmp_path, dtype):
    config, params = shipped
    export.write(config, params, tmp_path / "other", dtype, "")
    told = export.of_weights(checkpoint.load(tmp_path / "other")[2]["params"])
    assert told == export.of_weights(params, dtype)
    assert (told == export.of_weights(params)) == (dtype == "float32")


def test_the_files_of_two_exports_are_not_mixed(shipped, tmp_path):
    config, params = shipped
    other = jax.tree.map(lambda leaf: leaf + 1, params)
    export.write(config, other, tmp_path / "other", "float16", "")
    file = tmp_path / "tiny" / "weights.npz"
    file.write_bytes((tmp_path / "other" / "weights.npz").read_bytes())
    with pytest.raises(CheckpointError, match="tiny: config.json is of other weights"):
        checkpoint.load(tmp_path / "tiny")
    assert checkpoint.load(tmp_path / "other")


def test_a_bit_flipped_in_the_table_of_the_weights_is_told_in_one_line(shipped, tmp_path):
    file = tmp_path / "tiny" / "weights.npz"
    data, sound, refused = bytearray(file.read_bytes()), flatten(shipped[1]), 0
    for place in range(8 * len(data) - 4_000, 8 * len(data), 7):
        data[place // 8] ^= 1 << place % 8
        file.write_bytes(data)
        try:
            found = export.read_leaves(file.parent)
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert found.keys() == sound.keys()
            for name, leaf in found.items():
                np.testing.assert_array_equal(leaf, sound[name])
        data[place // 8] ^= 1 << place % 8
    assert refused > 100
