import pytest

from tests.campaigns import full_disk
from tests.campaigns.full_disk import Disk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not full_disk.may_mount(), reason="this user may not mount a small disk"),
]


def test_a_run_survives_a_full_disk(tmp_path):
    small = Disk("run", pages=90, files=0)
    assert full_disk.play_disk(small, tmp_path) == "run: one line, exit code 1"


def test_weights_that_do_not_fit_are_one_line(tmp_path):
    outcome = full_disk.play_disk(Disk("export", pages=2), tmp_path)
    assert outcome == "export: one line, exit code 1"
