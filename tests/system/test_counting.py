"""Progress of long work: lines where there is no terminal, and not many of them."""

import pytest

from draw_jax.system import counting


@pytest.fixture
def clock(monkeypatch):
    """Returns a list whose last item is the time."""
    times = [1000.0]
    monkeypatch.setattr(counting.time, "monotonic", lambda: times[-1])
    return times


def told(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_lines_come_after_half_a_minute_and_then_every_minute(clock, capsys):
    with counting.Counting(1_000_000, "sample", "measuring") as so_far:
        for second in range(0, 151, 10):
            clock.append(1000.0 + second)
            so_far.to(2_000 + 500 * second)
    assert told(capsys) == [
        f"measuring: {2_000 + 500 * s:,} of 1,000,000 samples, about {left} min left"
        for s, left in ((30, 33), (90, 32), (150, 31))
    ]


def test_short_work_and_its_end_are_silent(clock, capsys):
    with counting.Counting(100, "image", "measuring") as so_far:
        for done in (0, 50, 100):
            clock.append(clock[-1] + 14.0 + done)
            so_far.to(done)
    assert len(told(capsys)) == 1  # of 50: what is done needs no line


def test_a_reader_that_has_gone_ends_nothing(clock, monkeypatch):
    def gone(*args, **kwargs):
        raise BrokenPipeError

    with counting.Counting(100, "image", "measuring") as so_far:
        so_far.to(1)
        clock.append(2000.0)
        monkeypatch.setattr("builtins.print", gone)
        so_far.to(2)
