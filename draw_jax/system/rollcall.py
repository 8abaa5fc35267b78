"""Before several processes begin one job: are all of them there, and do they mean the same job?

JAX waits for its processes silently, ends them with a stack trace when one does not come, and
compares nothing. So process 0 first calls the roll, at the address where JAX's own service is to
listen a moment later; the connections stay, for `processes`.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from draw_jax.system.errors import UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_PATIENCE = 5.0  # seconds for a line of one that has connected: a stranger may never send any
_RETRY = 0.1  # seconds between two tries to reach process 0
_LONGEST = 2**20  # bytes of a message


class Place(NamedTuple):
    """Which one of how many processes this is, and where process 0 listens."""

    host: str
    port: int
    total: int
    process: int

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def name(self, index: int) -> str:
        """Returns what a process is called in messages."""
        return f"process {index} of {self.total}"


class Peer:
    """The connection to another process; a message is an object of JSON on a line."""

    def __init__(self, connection: socket.socket, host: str = ""):
        self.connection, self.host = connection, host
        self.heard = time.monotonic()
        self._rest, self._sending = b"", threading.Lock()

    def send(self, **message: Any) -> None:
        """Sends a message; if the other one is gone, `receive` finds out."""
        with self._sending, contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """Waits for some bytes and returns the complete messages.

        Raises:
            OSError: if the other one is gone.
            ValueError: if it sends something else.
        """
        data = self.connection.recv(2**16)
        if not data:
            raise ConnectionResetError("its connection closed")
        self.heard = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages = [json.loads(line) for line in lines]
        if len(self._rest) > _LONGEST or not all(isinstance(m, dict) for m in messages):
            raise ValueError("no message of ours")
        return messages

    def receive_one(self, seconds: float) -> dict[str, Any]:
        """Returns the next message and reads no byte beyond it.

        Raises:
            OSError: as `receive` does, and if it takes longer than so many seconds.
            ValueError: as `receive` does.
        """
        end, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            self.connection.settimeout(max(end - time.monotonic(), 0.001))
            byte = self.connection.recv(1)
            if not byte or len(line) > _LONGEST:
                raise ConnectionResetError("its connection closed")
            line += byte
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("no message of ours")  # noqa: TRY004
        return message


def place() -> Place:
    """Returns this process's place, from three variables or a cluster that JAX knows.

    Raises:
        ValueError: if neither gives one, or a value makes no sense.
    """
    told: dict[str, Any] = {name: os.environ.get(name) for name in VARIABLES}
    for name in VARIABLES[1:]:
        if told[name] and not told[name].isdecimal():
            raise ValueError(
                f"--distributed: expected a whole number in ${name}, got {told[name]!r}"
            )
        told[name] = int(told[name]) if told[name] else None
    address, count, index = told.values()
    if not address or None in (count, index):
        # JAX offers this only during its own start, which is too late for the checks here.
        from jax._src.clusters import ClusterEnv

        address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(
            address or None, count, index, None, None, 60
        )
    missing = [
        name
        for name, value in zip(VARIABLES, (address, count, index), strict=True)
        if value in (None, "")
    ]
    if missing:
        raise ValueError(
            f"--distributed: this is no cluster that JAX knows, and ${', $'.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set: "
            "the address HOST:PORT of process 0, the number of processes, and this one's, from 0"
        )
    if not index < count:
        raise ValueError(f"--distributed: $JAX_PROCESS_ID is {index}, of {count} processes")
    whole = re.fullmatch(r"(?:\[(.+)\]|([^:\s]+)):(\d{1,5})", address)
    if not whole or not 0 < int(whole[3]) < 2**16:
        raise ValueError(f"--distributed: expected HOST:PORT in ${VARIABLES[0]}, got {address!r}")
    return Place(whole[1] or whole[2], int(whole[3]), count, index)


def call(place: Place, facts: Mapping[str, Any], seconds: float) -> dict[int, Peer]:
    """Waits until all processes are there, and returns the connections to them.

    Args:
        place: of this process.
        facts: what must be the same in all of them, by name.
        seconds: how long to wait for the others.

    Returns:
        Process 0 gets one to each of the others, by its number; each of them gets one to it.

    Raises:
        UserError: in all, if one does not come in time, comes twice, or has other facts.
    """
    hello = {
        "process": place.process,
        "count": place.total,
        "host": socket.gethostname(),
        "facts": json.loads(json.dumps(facts)),
    }
    if place.process:
        return {0: _answer(place, hello, seconds)}
    peers: dict[int, Peer] = {}
    refusal = _gather(place, hello, seconds, peers)
    for peer in peers.values():
        peer.send(refusal=refusal, host=hello["host"])
    if refusal:
        for peer in peers.values():
            peer.connection.close()
        raise UserError(refusal)
    return peers


def _answer(place: Place, hello: dict[str, Any], seconds: float) -> Peer:
    """Returns a process's connection to process 0, which has agreed."""
    end, cause = time.monotonic() + seconds, "no answer"
    while (left := end - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((place.host, place.port), min(left, _PATIENCE))
        except OSError as error:
            cause = error.strerror or str(error)
            time.sleep(_RETRY)
            continue
        peer = Peer(connection)
        peer.send(**hello)
        try:
            peer.receive_one(max(end - time.monotonic(), _PATIENCE))  # it is process 0 indeed,
            answer = peer.receive_one(seconds + _PATIENCE)  # whose time may have begun just now
            refusal, peer.host = answer["refusal"], str(answer["host"])
        except (OSError, ValueError, KeyError) as error:
            connection.close()  # of another job's end, say; or JAX's own service
            cause = f"what listens there does not answer ({error or type(error).__name__})"
            time.sleep(_RETRY)
            continue
        if refusal:
            connection.close()
            raise UserError(refusal)
        return peer
    raise UserError(
        f"{place.name(0)} did not arrive within {seconds:g} s at {place.address} ({cause})"
    )


def _gather(
    place: Place, hello: dict[str, Any], seconds: float, peers: dict[int, Peer]
) -> str | None:
    """Fills in the connections that come to process 0; returns why the job cannot start, if so."""
    end = time.monotonic() + seconds
    try:
        server = _listen(place.port)
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen at {place.address} ({error.strerror}): is another job, or "
            f"another process 0 of this one, using it? Give ${VARIABLES[0]} a free port"
        ) from None
    with server:
        _check_leads_here(place)
        while len(peers) < place.total - 1:
            server.settimeout(max(end - time.monotonic(), 0.001))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = [k for k in range(1, place.total) if k not in peers]
                others = f" (nor did {len(missing) - 1} more)" if len(missing) > 1 else ""
                return (
                    f"{place.name(missing[0])} did not arrive within {seconds:g} s at "
                    f"{place.address}{others}"
                )
            peer = Peer(connection)
            try:
                theirs = peer.receive_one(_PATIENCE)
                index, peer.host = int(theirs["process"]), str(theirs["host"])
                count, facts = int(theirs["count"]), dict(theirs["facts"])
            except (OSError, ValueError, KeyError, TypeError):
                connection.close()  # a stranger
                continue
            peer.send(welcome=True)
            twice = index in peers or index == 0
            peers[len(peers) + place.total if twice else index] = peer  # is told, too
            if count != place.total:
                return f"process {index} was told of {count} processes, process 0 of {place.total}"
            if twice:
                return f"two processes say that they are {place.name(index)} (${VARIABLES[2]})"
            if differing := _differing(index, facts, hello["facts"]):
                return differing
    return None


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # a machine may have its IPv6 switched off
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
            )
    return socket.create_server(("", port), backlog=1024)


def _check_leads_here(place: Place) -> None:
    """Raises UserError if process 0 does not reach itself at the address for the others."""
    try:
        socket.create_connection((place.host, place.port), _PATIENCE).close()
    except OSError as error:
        raise UserError(
            f"${VARIABLES[0]} is {place.address}, where process 0 does not reach itself "
            f"({error.strerror or error}): expected a name of the machine that process 0 runs on"
        ) from None


def _differing(index: int, theirs: dict[str, Any], ours: dict[str, Any]) -> str | None:
    """Returns which facts differ between process 0 and another one, if any."""
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    if not names:
        return None
    told = "; ".join(
        f"{name} is {ours.get(name)!r} in process 0 and {theirs.get(name)!r} in process {index}"
        for name in names[:3]
    )
    more = f"; and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the processes were not given the same: {told}{more}"
