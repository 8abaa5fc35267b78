"""What a mapped set costs: the sets that are written, the memory that is seen, the table."""

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import held
from draw_jax.data import splits
from tests.benchmarks.conftest import imported
from tests.data.helpers import config
from tests.helpers import FAST_COMPILING, ROOT, assert_one_error, forked

HOLDS = "import numpy, time; a = numpy.ones(int({} * 2**20), numpy.uint8); time.sleep(1.0)"


@pytest.fixture(scope="module")
def mapped():
    with imported("mapped") as found:
        yield found.mapped


@pytest.fixture
def command(mapped, monkeypatch):
    """Returns run(*flags) -> the exit code; a training holds a MiB for each number of its set."""

    def training(data, run, updates):
        assert not run.exists() and updates == 7
        count = len(splits.load(config("svhn", data), "train").rows)
        return [sys.executable, "-c", HOLDS.format(count)]

    monkeypatch.setattr(mapped, "command", training)
    monkeypatch.setattr(mapped.signal, "signal", lambda *_: None)

    def run(*words):
        mapped.flags.FLAGS(["mapped", "--repeats=3", "--updates=7", *words])
        return mapped.main()

    yield run
    mapped.flags.FLAGS.unparse_flags()
    for name in ("numbers", "updates", "folder", "json", "repeats"):
        mapped.flags.FLAGS[name].unparse()


def test_the_sets_are_noise_of_the_sizes_asked_for(mapped, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "_BLOCK", 7)
    assert mapped.write(tmp_path, 300) == 300 * 64 * 64 * 3
    made = {
        split: splits.load(config("svhn", tmp_path), split) for split in ("train", "validation")
    }
    assert {split: len(part) for split, part in made.items()} == {"train": 295, "validation": 5}
    files = made["train"].files
    assert [len(file) for file in files] == [42, 258]  # as 33,402 and 202,353 of both
    for image in np.concatenate(files):
        assert image.min() < 5 and image.max() > 250
    assert len({image.tobytes() for image in np.concatenate(files)}) == 300
    assert mapped._ALL == 231_053 + 4_701


def test_room_is_taken_before_anything_is_written(mapped, tmp_path):
    path = tmp_path / "a.npy"
    images = mapped.reserved(path, 50)
    assert images.shape == (50, 64, 64, 3)
    assert 512 * path.stat().st_blocks >= images.nbytes  # no holes


def test_a_disk_without_room_is_told(mapped, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            OSError, match=r"train\.npy of 0\.\d\d GB \(File too large\): give a --f"
        ):
            mapped.write(tmp_path, 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_peak_is_of_memory_of_ones_own(mapped, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(80 * 2**20, np.uint8))
    code = f"import numpy, time; a = numpy.load('{tmp_path}/a.npy'{{}}); a.sum(); time.sleep(1.0)"
    words = [[sys.executable, "-c", code.format(more)] for more in (", mmap_mode='r'", "")]
    less, more = (mapped.peak(command, os.environ) for command in words)
    assert 70 < more - less < 90


def test_what_a_process_holds_that_has_ended_is_told():
    process = subprocess.Popen([sys.executable, "-c", ""])
    end = time.monotonic() + 30
    with pytest.raises(ProcessLookupError, match=f"process {process.pid} has ended"):
        while time.monotonic() < end:  # not waited for, so that it is still there
            assert held.count(process.pid).threads == 1
    process.wait()


def test_a_training_that_fails_says_why(mapped):
    words = [sys.executable, "-c", "import sys; sys.exit('error: no such thing')"]
    with pytest.raises(mapped.TrainingFailed, match="^training failed: no such thing$"):
        mapped.peak(words, os.environ)


def test_the_table_has_both_sets_and_nothing_is_left(command, tmp_path, capsys):
    folder, file = tmp_path / "disk", tmp_path / "figures.json"
    folder.mkdir()
    flags = (f"--folder={folder}", f"--json={file}")
    for numbers, verdict in ((200, "reached"), (500, "missed")):  # 98 and 245 MiB apart
        assert command(f"--numbers={numbers}", *flags) == 0
        assert not list(folder.iterdir())
        figures = json.loads(file.read_text())
        large, small = figures["large"], figures["small"]
        validation = [max(1, n * 4_701 // 235_754) for n in (numbers, numbers // 2)]
        images = [numbers - validation[0], numbers // 2 - validation[1]]
        assert [large["images"], small["images"]] == images
        assert [large["bytes"], small["bytes"]] == [12_288 * numbers, 12_288 * (numbers // 2)]
        more = large["peak_mebibytes"] - small["peak_mebibytes"]
        assert figures["difference_mebibytes"] == more
        assert more == pytest.approx(images[0] - images[1], abs=10)
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == (
            f"the large set takes {more:+,.0f} MiB; the aim is at most +191 (200 MB): {verdict}"
        )
        for line, name, found in zip(out[2:4], ("large", "small"), (large, small), strict=True):
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            assert cells[:2] == [name, f"{found['images']:,}"]
            assert cells[3] == f"{found['peak_mebibytes']:,.0f}"
            assert 0 < found["batch_ms"]["low"] <= found["batch_ms"]["median"]


@pytest.mark.slow
def test_the_command_trains_on_both(tmp_path):
    words = ("benchmarks.mapped", "--numbers=400", "--updates=3", "--repeats=3")
    commands = [(*words, f"--folder={tmp_path}"), (*words, f"--folder={tmp_path / 'nowhere'}")]
    done, mistake = forked(commands, cwd=ROOT, timeout=300, XLA_FLAGS=FAST_COMPILING)
    assert (done.returncode, done.stderr) == (0, "")
    assert "| large |             393 |" in done.stdout and done.stdout.endswith("reached\n")
    assert not list(tmp_path.iterdir())
    assert_one_error(mistake, 2, f"--folder: '{tmp_path}/nowhere' is no directory")
