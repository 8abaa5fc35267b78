"""What processes of one job tell each other, each played by a thread; no JAX, no real ends."""

import os
import random
import socket
import threading
import time

import jax
import pytest

from draw_jax.system import processes
from draw_jax.system.errors import UserError
from draw_jax.system.processes import Team
from draw_jax.system.rollcall import Peer, Place


class Left(BaseException):
    """A process that would have ended; the exit code."""


@pytest.fixture
def teams(monkeypatch):
    """Returns make(total, seconds) -> the processes' teams; `make.left` fills with exit codes."""
    peers, made = [], []

    def leave(code):
        make.left.append(code)
        raise Left  # ends the watcher's thread

    def make(total, seconds=30.0):
        far, near = {}, []
        for k in range(1, total):
            one, other = socket.socketpair()
            far[k] = Peer(one, f"node{k}")
            near.append(Peer(other, "node0"))
        peers.extend([*far.values(), *near])
        places = [Place("h", 1, total, k) for k in range(total)]
        crew = [
            Team(places[0], far, seconds),
            *(Team(p, {0: peer}, seconds) for p, peer in zip(places[1:], near, strict=True)),
        ]
        made.extend(crew)
        return crew

    make.left = []
    monkeypatch.setattr(processes, "leave", leave)
    monkeypatch.setattr(processes, "_LAST", 0.0)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    yield make
    for team in made:
        team._ended.set()
    for peer in peers:
        peer.send()  # wakes the watchers
    for team in made:
        team._watcher.join(10)
        assert not team._watcher.is_alive()
    for peer in peers:
        peer.connection.close()


def together(teams, play):
    """Returns what play(k, team) returns in each process, all at once."""
    results = [None] * len(teams)
    threads = [
        threading.Thread(target=lambda k=k, t=t: results.__setitem__(k, play(k, t)), daemon=True)
        for k, t in enumerate(teams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def wait_for(done):
    end = time.monotonic() + 30
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    assert done()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("wishing", [{0}, {2}, {0, 1, 2}])
def test_all_stop_at_the_same_point_whatever_their_pace(teams, seed, wishing):
    """As in training, nobody is more than one update ahead: its collectives wait."""
    total = 3
    step = threading.Barrier(total)  # an update of all devices

    def play(k, team):
        pace = random.Random(f"{seed} {k}")
        for asked in range(1, 200):
            time.sleep(pace.random() / 300)
            if team.agree(k in wishing and asked >= 5 + k):
                return asked
            step.wait(20)  # where they do not all stop here, the others wait in vain, and fail
        return None

    stopped = together(teams(total), play)
    assert len(set(stopped)) == 1 and 5 <= stopped[0] < 60, stopped


def test_nobody_stops_unasked_and_the_end_waits_for_the_last(teams):
    ends = []

    def play(k, team):
        assert not any(team.agree(False) for _ in range(50))
        time.sleep(0.3 * k)
        ends.append(time.monotonic())
        team.finish()
        return time.monotonic()

    finished = together(teams(3), play)
    assert min(finished) >= max(ends)


def test_a_process_that_is_gone_ends_the_others_by_name(teams, capsys):
    crew = teams(3)
    crew[2]._peers[0].connection.shutdown(socket.SHUT_RDWR)  # as the end of a process does
    wait_for(lambda: len(teams.left) == 3)
    errors = capsys.readouterr().err.splitlines()
    lost = [line for line in errors if line.startswith("error: process 2 of 3 (on node2) was lost")]
    assert len(lost) == 2 and teams.left == [1, 1, 1]
    assert "the same command continues" in lost[0]


def test_process_0_that_is_gone_ends_the_others(teams, capsys):
    crew = teams(2)
    crew[0]._told.set()  # it says nothing more
    crew[0]._peers[1].connection.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: teams.left)
    assert capsys.readouterr().err.startswith("error: process 0 of 2 (on node0) was lost (")


def test_silence_is_a_loss(teams, capsys):
    near, far = socket.socketpair()
    with near, far:
        Team(Place("h", 1, 2, 0), {1: Peer(near, "node1")}, 1.0)
        wait_for(lambda: teams.left)
        told = capsys.readouterr().err
    assert told.startswith("error: process 1 of 2 (on node1) was lost (not heard of for 1 s)")


def test_a_quiet_time_is_no_silence(teams):
    crew = teams(2, seconds=1.5)
    time.sleep(2)
    assert not teams.left
    together(crew, lambda k, team: team.finish())


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("the run is\n  in use"), 1, "ended: the run is in use"),
        (ValueError("config.seed: no"), 2, "ended: config.seed: no"),
        (KeyboardInterrupt(), 1, "ended: interrupted"),
        (ZeroDivisionError("x"), 1, "ended: ZeroDivisionError: x"),
    ],
)
def test_the_others_are_told_why_a_process_ends(
    teams, capsys, monkeypatch, which, error, code, told
):
    monkeypatch.setattr(processes, "_GRACE", 0.1)
    crew = teams(3)
    crew[which].fail(error)
    wait_for(lambda: len(teams.left) == 2)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and teams.left == [code, code]
    assert all(line.startswith(f"error: process {which} of 3") for line in errors)
    assert all(line.endswith(told) for line in errors)


def test_a_mistake_that_all_make_is_told_by_each_for_itself(teams, capsys):
    together(teams(3), lambda k, team: team.fail(ValueError("config.seed: no")))
    time.sleep(1.5)
    assert not teams.left and not capsys.readouterr().err


def test_an_error_that_follows_from_a_loss_is_not_told_beside_it(teams, monkeypatch):
    monkeypatch.setattr(processes, "_LAST", 1.0)
    crew = teams(2)
    crew[1]._peers[0].connection.shutdown(socket.SHUT_RDWR)
    crew[0]._told.wait(20)
    crew[0].fail(UserError("cannot write to checkpoints (Gloo AllGather failed)"))
    assert 1 in teams.left  # process 0 has ended, before it could say so


def test_what_xla_meets_when_another_has_gone_is_not_told_as_the_cause(teams, capsys):
    crew = teams(2)
    gloo = ValueError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer")
    failing = threading.Thread(target=crew[0].fail, args=(gloo,))
    failing.start()
    crew[1].fail(UserError("no data"))
    failing.join(20)
    assert teams.left == [1]
    assert capsys.readouterr().err == "error: process 1 of 2 (on node1) ended: no data\n"


@pytest.mark.parametrize(
    ("variables", "alone"),
    [
        ({}, False),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, True),
        ({"SLURM_STEP_TASKS_PER_NODE": "1"}, True),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, False),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2),2"}, False),
        ({"SLURM_TASKS_PER_NODE": "1(x16)"}, True),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, True),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, False),
    ],
)
def test_a_process_that_is_alone_on_its_machine_has_all_of_its_gpus(monkeypatch, variables, alone):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes.rollcall, "place", lambda: Place("h", 1, 1, 0))
    monkeypatch.setattr(processes.rollcall, "call", lambda *_: {})
    monkeypatch.setattr(processes, "_put_off_aborts", lambda: None)
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **more: given.update(more))
    with processes.join({}, 1.0):
        assert given["cluster_detection_method"] == ("deactivate" if alone else None)
