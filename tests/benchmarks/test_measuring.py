"""What the benchmarks share: timing, spreads and tables."""

import time

import pytest


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        ("", "exit code -9"),
        ("error: no such thing\n", "no such thing"),
        (
            (
                "Traceback (most recent call last):\n  File a\nKeyError: 'first'\n"
                "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: a | b\n--------\n"
                "For simplicity, JAX has removed its internal frames\n"
            ),
            "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: a \\| b",
        ),
        ("F1121 07:06 parse.cc:234] Unknown flag\nFlags:\n\thelp\n", "F1121 07:06 parse.cc:234] U"),
        ("one\n\ntwo\n", "two"),
    ],
)
def test_a_failures_line_is_the_one_that_names_it(stderr, told, modules):
    assert modules.measuring.complaint(stderr, -9).startswith(told)


def test_the_end_of_what_a_process_wrote_is_read_and_bytes_that_are_no_text_do_not_matter(
    tmp_path, modules
):
    path = tmp_path / "said"
    path.write_bytes(b"first line\n" + b"\xff" * 200_000 + b"\nerror: the last\n")
    with path.open("rb") as said:
        text = modules.measuring.end_of(said)
        assert len(text) == 100_000 and said.tell() == 0
        assert modules.measuring.complaint(text, 1) == "the last"
    path.write_bytes(b"all of it")
    with path.open("rb") as said:
        assert modules.measuring.end_of(said) == "all of it"


class Slow:
    """A result that is there only after a while."""

    def __init__(self, log, name):
        self.log, self.name = log, name

    def block_until_ready(self):
        time.sleep(0.01)
        self.log.append(f"{self.name} is there")
        return self


def test_calls_are_timed_in_turn_until_their_results_are_there(modules):
    log = []

    def call(name):
        log.append(name)
        return {"result": Slow(log, name)}

    times = modules.measuring.in_turn({n: lambda n=n: call(n) for n in "ab"}, rounds=3)
    assert log == ["a", "a is there", "b", "b is there"] * 4  # one round to warm up
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}
    assert all(ms >= 10 for values in times.values() for ms in values)


def test_a_rest_comes_before_every_call_and_is_not_timed(modules, monkeypatch):
    log, now = [], 0.0

    def pass_seconds(seconds, what):
        nonlocal now
        now += seconds
        log.append(what)

    monkeypatch.setattr(modules.measuring.time, "sleep", lambda s: pass_seconds(s, f"rest {s}"))
    monkeypatch.setattr(modules.measuring.time, "perf_counter", lambda: now)
    calls = {"a": lambda: pass_seconds(1, "a"), "b": lambda: pass_seconds(2, "b")}
    times = modules.measuring.in_turn(calls, rounds=3, rest=5)
    assert log == ["rest 5", "a", "rest 5", "b"] * 4
    assert times == {"a": [1000.0] * 3, "b": [2000.0] * 3}
    log.clear()
    times = modules.measuring.in_turn(calls, rounds=1, rest=5, warm=True)
    assert log == ["rest 5", "a", "a", "rest 5", "b", "b"] * 2
    assert times == {"a": [1000.0], "b": [2000.0]}


def test_numbers_spreads_and_tables_read_well(modules):
    number, table = modules.measuring.number, modules.measuring.table
    assert [number(x) for x in (0.00123, 1.5, 99.94, 99.96, 12345.6)] == [
        *("0.00123", "1.50", "99.9", "100", "12,346")
    ]
    spread = modules.measuring.spread([float(n) for n in range(11)])
    assert spread == (5, 1, 9) and str(spread) == "5.00 (1.00 to 9.00)"
    row = modules.measuring.flat({"size": 3, "step_ms": spread, "cost": 2.5})
    assert list(row.items()) == [
        *(("size", 3), ("step_ms", 5), ("step_ms_low", 1), ("step_ms_high", 9), ("cost", 2.5))
    ]
    assert table(["piece", "ms"], [["read", "1.00"], ["filterbanks", "2"]]).splitlines() == [
        "| piece       |   ms |",
        "| ----------- | ---: |",
        "| read        | 1.00 |",
        "| filterbanks |    2 |",
    ]
