import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from draw_jax.runs import digests
from draw_jax.runs.metrics import MetricsFile, Progress, RunLog, duration
from draw_jax.runs.tensorboard import TensorBoard

COLUMNS = ("elbo_loss", "nll", "kl")
ROW = {"step": 3, "split": "train", "elbo_loss": 101.25, "nll": 0.1 + 0.2, "kl": 1e-30}


@pytest.fixture
def file(tmp_path):
    return MetricsFile(tmp_path / "metrics.jsonl")


def test_rows_come_back_exactly_and_one_a_line(file, tmp_path):
    assert file.rows() == []
    written = [ROW, ROW | {"step": 4, "kl_per_step": [0.1, 1 / 3]}]
    for row in written:
        file.write(row)
    assert file.rows() == written
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [digests.verified(json.loads(line)) for line in lines] == [(r, True) for r in written]


@pytest.mark.parametrize("tear", ['{"step": 5, "spl', '{"step": 5, "split": "train"', "{"])
def test_a_torn_last_line_is_left_out_and_cut_away(file, tmp_path, tear):
    file.write(ROW)
    with (tmp_path / "metrics.jsonl").open("a") as out:
        out.write(tear)
    assert file.rows() == [ROW]
    file.cut_back(10)
    assert (tmp_path / "metrics.jsonl").read_text() == json.dumps(digests.signed(ROW)) + "\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b"101.25", b"101.75"),
        lambda line: line.replace(b"nll", b"nl\xff"),
        lambda line: b"5",
        lambda line: b"[]",
        lambda line: b'{"split": "train"}',
        lambda line: line[:30],
        lambda line: b"",
    ],
)
def test_a_damaged_line_is_told_left_out_and_kept(file, tmp_path, damage):
    for step in (1, 2, 3):
        file.write(ROW | {"step": step})
    path = tmp_path / "metrics.jsonl"
    first, second, third = path.read_bytes().splitlines()
    assert damage(second) != second
    path.write_bytes(b"\n".join([first, damage(second), third, b""]))
    with pytest.warns(UserWarning, match=r"metrics.jsonl: line 2 is damaged"):
        assert [row["step"] for row in file.rows()] == [1, 3]
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        file.cut_back(2)
    assert path.read_bytes() == b"\n".join([first, damage(second), b""])


def test_lines_of_earlier_versions_are_taken_and_get_a_digest(file, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    assert file.rows() == [ROW]
    file.cut_back(3)
    assert digests.verified(json.loads(path.read_text())) == (ROW, True)


@pytest.mark.parametrize(
    "other",
    [
        {"elbo_loss": "x"},
        {"elbo_loss": None},
        {"kl_per_step": []},
        {"kl_per_step": [[1.0], 2.0]},
        {"elbo_loss": 10**400},
        {"disest": "0123456789abcdef"},  # the word itself was hit
    ],
    ids=str,
)
def test_a_line_without_digest_that_is_of_no_version_is_left_out(file, tmp_path, other):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(ROW | other) + "\n")
    with pytest.warns(UserWarning, match="line 1 is damaged"):
        assert file.rows() == []


def test_a_line_without_digest_is_not_ours_where_others_have_one(file, tmp_path):
    file.write(ROW)
    with (tmp_path / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps(ROW | {"elbo_loss": 1.0}) + "\n")
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert file.rows() == [ROW]


def test_a_last_line_without_its_end_is_whole(file, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps(ROW))
    file.cut_back(3)
    file.write(ROW | {"step": 4})
    assert [row["step"] for row in file.rows()] == [3, 4]


def test_cut_back_drops_what_comes_after_the_step(file, tmp_path):
    file.cut_back(0)
    assert not (tmp_path / "metrics.jsonl").exists()
    for step in (1, 2, 2, 3, 4):
        file.write(ROW | {"step": step})
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()
    file.cut_back(2)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == before[:3]
    assert os.listdir(tmp_path) == ["metrics.jsonl"]
    file.cut_back(0)
    assert file.rows() == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (0.6, "0:01"), (59.4, "0:59"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00")]
    + [(3723, "1:02:03"), (90061, "25:01:01")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_where_there_is_no_terminal(capsys):
    progress = Progress(total=20, done=10, columns=COLUMNS)
    progress.show(ROW | {"step": 11, "images_per_second": 12.34})
    progress.advance(11)
    progress.show(ROW | {"step": 15, "images_per_second": 12.34})
    progress.show(ROW | {"step": 15, "split": "validation"})
    progress.advance(15)
    progress.say("a word")
    progress.close()
    output, errors = capsys.readouterr()
    compiling, first, train, validation, word = output.splitlines()
    assert compiling == "compiling the first update"
    assert "eta" not in first  # of the first update, which compiles, nothing follows
    assert re.fullmatch(
        r"step 15/20  train  loss 101\.2  nll 0\.3  kl 0\.0  images/s 12\.3  eta \d+:\d\d", train
    )
    assert validation == "step 15/20  validation  loss 101.2  nll 0.3  kl 0.0"
    assert (word, errors) == ("a word", "")


def test_a_silent_one_says_nothing(capsys):
    progress = Progress(total=20, done=0, columns=COLUMNS, silent=True)
    progress.show(ROW)
    progress.advance(3)
    progress.say("a word")
    progress.close()
    assert capsys.readouterr() == ("", "")


TERMINAL = """
from draw_jax.runs import metrics
progress = metrics.Progress(total=20, done=10, columns=('elbo_loss', 'nll', 'kl'))
progress.advance(11)
progress.show({"step": 15, "split": "train", "elbo_loss": 101.25})
progress.advance(15)
progress.show({"step": 15, "split": "validation", "elbo_loss": 99.5})
progress.close()
"""


def test_a_bar_on_a_terminal():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = []

    def read():
        while True:
            try:
                part = os.read(ours, 1024)
            except OSError:  # the other end is closed
                return
            shown.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    subprocess.run([sys.executable, "-c", TERMINAL], stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    reader.join()
    os.close(ours)
    text = b"".join(shown).decode()
    assert "compiling" in text
    assert "15/20" in text and "loss=101.2" in text and "75%" in text
    assert "step 15/20  validation  loss 99.5" in text  # a line of its own, above the bar


def test_tensorboard_gets_scalars_lists_and_pictures(tmp_path):
    board = TensorBoard(tmp_path / "board", 0)
    board.write(ROW | {"kl_per_step": [0.5, 0.25]})
    board.image("samples", np.zeros((4, 6, 3), np.uint8), 3)
    board.close()
    (events,) = (tmp_path / "board").iterdir()
    content = events.read_bytes()
    for name in ("train/elbo_loss", "kl_per_step/t_001", "kl_per_step/t_002", "samples"):
        assert name.encode() in content
    assert b"train/step" not in content and b"train/split" not in content


def test_two_starts_share_no_file(tmp_path):
    board = TensorBoard(tmp_path / "board", 0)
    board.write(ROW)
    board.close()
    (first,) = (tmp_path / "board").iterdir()
    before = first.read_bytes()
    assert b"train/elbo_loss" in before
    code = "from draw_jax.runs.tensorboard import *; TensorBoard(Path('board'), 3).close()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "board").iterdir())) == 2 and first.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")
def test_a_full_disk_is_said_once_and_stops_nothing(tmp_path):
    said = []
    board = TensorBoard(tmp_path / "board", 0, said.append)
    board._writer._py_recordio_writer._writer.close()
    board._writer._py_recordio_writer._writer = open("/dev/full", "wb")  # noqa: SIM115
    for _ in range(100):  # more than any queue would hold
        board.write(ROW)
        board.image("samples", np.zeros((40, 40, 3), np.uint8), 3)
    board.close()
    (text,) = said
    assert "cannot write events for TensorBoard" in text and "No space left" in text
    (tmp_path / "file").touch()
    TensorBoard(tmp_path / "file", 0, said.append).write(ROW)
    assert len(said) == 2 and "goes on without them" in said[1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")
def test_metrics_that_cannot_be_written_are_an_error_that_names_them():
    with pytest.raises(OSError, match=r"cannot write /dev/full: No space .*command continues"):
        MetricsFile(Path("/dev/full")).write(ROW)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")
@pytest.mark.parametrize("terminal", [False, True])
def test_progress_that_cannot_be_printed_ends_no_run(tmp_path, monkeypatch, terminal):
    log = RunLog(tmp_path, 0, 10, COLUMNS, silent=False)
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        if terminal:
            monkeypatch.setattr(sys, "stderr", full)
            monkeypatch.setattr(full, "isatty", lambda: True)
        log.start()
        for step in (1, 2, 3):
            log.write(ROW | {"step": step})
            log.advance(step)
        log.say("a word")
        log.close()
    assert [row["step"] for row in MetricsFile(tmp_path / "metrics.jsonl").rows()] == [1, 2, 3]
    for lock in tqdm.get_lock().locks:  # which a bar that cannot be printed keeps, of all threads
        with contextlib.suppress(RuntimeError, AssertionError):  # it is free
            while True:
                lock.release()


@pytest.mark.parametrize(
    ("every", "since", "until", "lost"),
    [
        (10, 0, 99, False),
        (10, 80, 109, True),  # the line of 100
        (10, 100, 119, True),
        (10, 150, 155, False),  # since 150 none was due
        (100, 0, 199, True),
        (1000, 0, 155, False),
    ],
)
def test_a_line_that_was_due_since_the_checkpoint_before_is_missed(file, every, since, until, lost):
    file.write(ROW | {"step": 90})
    if lost:
        with pytest.warns(
            UserWarning, match=f"ends at step 90, .* went on to {until}: lines are lost"
        ):
            file.warn_of_lost(every, since, until)
    else:
        file.warn_of_lost(every, since, until)


def test_what_is_synced_is_the_file_itself(file, tmp_path, monkeypatch):
    file.sync()  # nothing is there yet
    file.write(ROW)
    synced = []
    monkeypatch.setattr(
        "draw_jax.runs.metrics.os.fsync", lambda n: synced.append(os.readlink(f"/proc/self/fd/{n}"))
    )
    file.sync()
    assert synced == [str(tmp_path / "metrics.jsonl")]
