"""The roll of several processes: who is missing, who comes twice, who means another job."""

import contextlib
import socket
import threading
import time

import pytest

from draw_jax.system import rollcall
from draw_jax.system.errors import UserError
from draw_jax.system.rollcall import VARIABLES, Place
from tests.helpers import free_port

FACTS = {"config.seed": 0, "config.model.image_shape": (28, 28, 1), "--workdir": "/runs/a"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("", "", ""), r"no cluster .* \$JAX_COORDINATOR_ADDRESS, \$JAX_NUM_PROCESSES, .* are not"),
        (("h:1", "2", ""), r"and \$JAX_PROCESS_ID is not set"),
        (("h:1", "2", "abc"), r"expected a whole number in \$JAX_PROCESS_ID, got 'abc'"),
        (("h:1", "-2", "0"), r"expected a whole number in \$JAX_NUM_PROCESSES, got '-2'"),
        (("h:1", "2", "2"), r"\$JAX_PROCESS_ID is 2, of 2 processes"),
        (("h", "2", "0"), r"expected HOST:PORT in \$JAX_COORDINATOR_ADDRESS, got 'h'"),
        (("h:http", "2", "0"), r"expected HOST:PORT .* got 'h:http'"),
        (("h:65536", "2", "0"), r"expected HOST:PORT .* got 'h:65536'"),
        (("http://h:1", "2", "0"), r"expected HOST:PORT .* got 'http://h:1'"),
    ],
)
def test_variables_that_name_no_process_are_told(monkeypatch, values, told):
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^--distributed: .*{told}"):
        rollcall.place()


@pytest.mark.parametrize(
    ("address", "host"),
    [("node7:1234", "node7"), ("10.0.0.1:1234", "10.0.0.1"), ("[::1]:1234", "::1")],
)
def test_the_variables_tell_the_place(monkeypatch, address, host):
    for name, value in zip(VARIABLES, (address, "4", "3"), strict=True):
        monkeypatch.setenv(name, value)
    place = rollcall.place()
    assert place == Place(host, 1234, 4, 3) and place.address == address


def test_a_cluster_that_jax_knows_tells_the_place(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1:34911")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "0")
    assert rollcall.place()._replace(port=0) == Place("10.96.0.1", 0, 4, 2)


def call(*calls, seconds=20.0):
    """Returns what each process gets, called as (process, total, facts) at once, in threads."""
    port = free_port()
    results = [None] * len(calls)

    def one(k, process, total, facts):
        try:
            results[k] = rollcall.call(Place("localhost", port, total, process), facts, seconds)
        except UserError as error:
            results[k] = str(error)

    threads = [threading.Thread(target=one, args=(k, *args)) for k, args in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for result in results:
        for peer in result.values() if isinstance(result, dict) else ():
            peer.connection.close()
    return results, port


def test_all_that_arrive_are_connected_to_process_0():
    results, _ = call((2, 3, FACTS), (0, 3, FACTS), (1, 3, FACTS))
    assert [set(peers) for peers in results] == [{0}, {1, 2}, {0}]
    assert results[1][2].host == socket.gethostname()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("config.seed", 1, "config.seed is 0 in process 0 and 1 in process 1"),
        ("--workdir", "/b", "--workdir is '/runs/a' in process 0 and '/b' in process 1"),
        ("config.model.image_shape", (28, 28, 3), "and [28, 28, 3] in process 1"),
        ("config.new", 1, "config.new is None in process 0 and 1 in process 1"),
    ],
)
def test_facts_that_differ_are_named_in_every_process(name, value, told):
    results, _ = call((0, 2, FACTS), (1, 2, FACTS | {name: value}))
    assert results[0] == results[1] and results[0].endswith(told)


def test_of_many_facts_three_are_named():
    facts = {f"config.{k}": 0 for k in range(5)}
    results, _ = call((0, 2, facts), (1, 2, dict.fromkeys(facts, 1)))
    assert "config.2" in results[0] and results[0].endswith("; and 2 more")


def test_who_is_missing_is_told_to_every_process():
    began = time.monotonic()
    results, port = call((0, 3, FACTS), (2, 3, FACTS), seconds=1.0)
    told = f"process 1 of 3 did not arrive within 1 s at localhost:{port}"
    assert results == [told, told]
    assert 1 <= time.monotonic() - began < 30


def test_process_0_that_is_missing_is_told():
    ([told], port) = call((1, 2, FACTS), seconds=1.0)
    assert told.startswith(f"process 0 of 2 did not arrive within 1 s at localhost:{port} (")


def test_a_host_without_an_address_is_told():
    with pytest.raises(UserError, match=r"process 0 of 2 did not arrive .* at nohost.invalid:1 \("):
        rollcall.call(Place("nohost.invalid", 1, 2, 1), FACTS, 0.5)
    with pytest.raises(
        UserError, match=r"nohost.invalid:\d+, where process 0 does not reach itsel"
    ):
        rollcall.call(Place("nohost.invalid", free_port(), 2, 0), FACTS, 0.5)


def test_a_number_that_two_processes_have_is_told_to_all():
    results, _ = call((0, 3, FACTS), (1, 3, FACTS), (1, 3, FACTS))
    assert set(results) == {"two processes say that they are process 1 of 3 ($JAX_PROCESS_ID)"}


def test_counts_that_differ_are_told_to_all():
    results, _ = call((0, 2, FACTS), (1, 3, FACTS))
    assert set(results) == {"process 1 was told of 3 processes, process 0 of 2"}


def test_an_address_in_use_is_told():
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"cannot listen at localhost:{port} \(Address already"
        ):
            rollcall.call(Place("localhost", port, 2, 0), FACTS, 5.0)


def test_another_program_at_the_address_of_process_0_is_told(monkeypatch):
    monkeypatch.setattr(rollcall, "_PATIENCE", 0.5)
    with socket.create_server(("", 0)) as other:  # which takes connections and says nothing
        port = other.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(UserError, match=r"process 0 of 2 did not arrive .* does not answer \("):
            rollcall.call(Place("localhost", port, 2, 1), FACTS, 1.0)
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b"[1]\n", b"\xff\n", b""])
def test_strangers_at_the_door_are_ignored(said):
    port, results = free_port(), {}

    def begin():
        results.update(rollcall.call(Place("localhost", port, 2, 0), FACTS, 20.0))

    first = threading.Thread(target=begin)
    first.start()
    for _ in range(200):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("localhost", port)) as stranger,
        ):
            stranger.sendall(said)
            break
        time.sleep(0.05)
    peers = rollcall.call(Place("localhost", port, 2, 1), FACTS, 20.0)
    first.join(20)
    assert set(results) == {1} and set(peers) == {0}
    for peer in (results[1], peers[0]):
        peer.connection.close()
