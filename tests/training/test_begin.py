"""What a run does before its first update."""

import signal

import pytest

from draw_jax.runs import directory
from draw_jax.system import devices
from draw_jax.training import loop, signals
from tests.helpers import small_config


class Terminated(Exception):
    pass


def terminate(number, frame):
    raise Terminated


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_first_signal_ends_what_has_not_begun_and_asks_what_has(name, capfd):
    number = signal.Signals[name]
    before = signal.signal(signal.SIGTERM, terminate)
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        error = KeyboardInterrupt if name == "SIGINT" else Terminated
        with pytest.raises(error), signals.stop_signals():
            signal.raise_signal(number)
        assert capfd.readouterr().out == ""
        with signals.stop_signals() as stop:
            stop.begun = True
            signal.raise_signal(number)
            assert stop.requested()
        assert f"{name}: saving, then stopping" in capfd.readouterr().out
        assert signal.getsignal(signal.SIGTERM) is terminate
        signal.signal(number, signal.SIG_IGN)  # as in a job in the background
        with signals.stop_signals() as stop:
            signal.raise_signal(number)
            assert stop.requested()
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupted)


@pytest.mark.parametrize("asked", [0, 3])
def test_python_splits_the_cores_as_the_program_does(tmp_path, monkeypatch, asked):
    class Asked(Exception):
        pass

    def share(count):
        raise Asked(count)

    directory.write_config(tmp_path, small_config(**{"train.cpu_devices": 2}))
    monkeypatch.setattr(devices, "share_cores", share)
    monkeypatch.setattr(loop.jax, "process_count", lambda: pytest.fail("JAX has begun already"))
    with pytest.raises(Asked) as told:
        loop.train(small_config(**{"train.cpu_devices": asked}), tmp_path)
    assert told.value.args == (asked or 2,)  # those that the run began with
