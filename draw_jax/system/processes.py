"""Several processes of one job: they begin together, stop at the same step, and none waits for ever.

Process 0 keeps a connection to each of the others. When one ends, is killed or falls silent, all
learn within moments which one and why, and end. JAX itself would wait, then abort and name none.
"""

import contextlib
import ctypes
import os
import re
import selectors
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from draw_jax.system import rollcall
from draw_jax.system.errors import UserError
from draw_jax.system.rollcall import Peer, Place

LOST, BAD = 1, 2  # exit codes of those that are left
_GRACE = 1.0  # seconds for the same mistake to be found by each process for itself
_LAST = (
    0.5  # seconds that process 0 stays longer: JAX's service ends with it, and aborts the others
)
_LONGEST = 300  # characters of what ended another process; its own output has it all
_OF_JAX = re.compile(r"[A-Z_]{5,}: ")  # how XLA's errors begin, which others hand on


class Team:
    """The processes of one job, as one of them sees them.

    Args:
        place: of this process.
        peers: connections as `rollcall.call` returns them.
        seconds: of silence after which a process counts as lost.
    """

    def __init__(self, place: Place, peers: dict[int, Peer], seconds: float):
        self._place, self._peers, self._seconds = place, peers, seconds
        self._interval = min(seconds / 4, 5.0)
        self._state = threading.Condition()
        self._asked = 0  # how often this process has asked whether to stop
        self._wished = False  # whether it said that it wants to
        self._promise: int | None = None  # it passes this question only once it knows the answer
        self._promises: dict[int, int] = {}  # process 0: those of all
        self._stop_at: int | None = None  # the question to which all answer yes
        self._lost = False  # whether another one is gone
        self._finished: set[int] = set()  # process 0: who is at the end
        self._ended, self._told, self._leaving = (threading.Event() for _ in range(3))
        for peer in peers.values():
            peer.connection.settimeout(seconds)  # of sending; it is read when there is something
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def agree(self, wish: bool) -> bool:
        """Returns whether all processes stop at this point; each must ask at the same points.

        Args:
            wish: whether this process wants to.
        """
        if wish and not self._wished:
            self._wished = True
            if self._place.process:
                self._peers[0].send(wish=True)
            else:
                self._hear_wish()
        with self._state:
            self._asked += 1
            if self._promise is not None and self._asked >= self._promise:
                self._state.wait_for(lambda: self._stop_at is not None)
            return self._stop_at is not None and self._asked >= self._stop_at

    def finish(self) -> None:
        """Waits until all are at the end, so that one that was faster does not count as lost."""
        if self._place.process:
            self._peers[0].send(finished=True)
        else:
            self._hear_finished(0)
        self._ended.wait()
        self._watcher.join()

    def fail(self, error: BaseException) -> None:
        """Tells the others why this process ends; where it ends because of another, says that."""
        told = self._told.wait(_GRACE / 2)  # a loss that is known by now ends this process there
        text = " ".join(str(error).split()) or type(error).__name__
        kinds = UserError | OSError | ValueError | KeyboardInterrupt
        ours = isinstance(error, kinds) and not _OF_JAX.search(text)
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
        if not ours:
            text = f"{type(error).__name__}: {text}"
            told = self._told.wait(2 * _GRACE)
        if told and (self._lost or not ours):
            self._watcher.join()  # which ends this process: our error only followed from the other
        self._leaving.set()
        if told:
            return
        code = BAD if ours and isinstance(error, ValueError) else LOST
        if isinstance(error, KeyboardInterrupt):
            text = "interrupted"
        if self._place.process:
            self._peers[0].send(failed=text, code=code)
        else:
            self._tell_over(f"{self._name(0)} ended: {text}", code, _GRACE)
            time.sleep(_GRACE + _LAST)

    def _name(self, index: int) -> str:
        host = self._peers[index].host if index in self._peers else ""
        return self._place.name(index) + (f" (on {host})" if host else "")

    def _watch(self) -> None:
        """Reads what the others send, until all are at the end or one is missing."""
        sent = 0.0
        with selectors.DefaultSelector() as selector:
            for index, peer in self._peers.items():
                selector.register(peer.connection, selectors.EVENT_READ, index)
            while not self._ended.is_set() and not self._told.is_set():
                for key, _ in selector.select(self._interval):
                    self._listen(key.data)
                now = time.monotonic()
                if now - sent >= self._interval:
                    sent = now
                    for peer in self._peers.values():
                        peer.send()
                for index, peer in self._peers.items():
                    if now - peer.heard > self._seconds:
                        self._lose(index, f"not heard of for {self._seconds:g} s")

    def _listen(self, index: int) -> None:
        if self._ended.is_set() or self._told.is_set():
            return
        try:
            messages = self._peers[index].receive()
        except (OSError, ValueError) as error:
            return self._lose(index, getattr(error, "strerror", None) or str(error))
        for message in messages:
            if "wish" in message:
                self._hear_wish()
            elif "promise" in message:
                self._hear_promise(index, message["promise"])
            elif "ask" in message:
                self._peers[0].send(promise=self._give_promise())
            elif "stop_at" in message:
                self._hear_stop(message["stop_at"])
            elif "finished" in message:
                self._hear_finished(index)
            elif "failed" in message:
                text = f"{self._name(index)} ended: {message['failed']}"
                self._tell_over(text, message["code"], _GRACE, but=index)
                self._end(text, message["code"], _GRACE)
            elif "over" in message:
                self._end(message["over"], message["code"], message["grace"])
            elif "ended" in message:
                self._ended.set()

    def _hear_wish(self) -> None:
        """Process 0: has every process promise not to pass a point before all know where to stop.

        The watcher threads promise. They never wait for anything, so none can wait in vain.
        """
        with self._state:
            if self._promises:
                return
            self._promises[0] = 0  # for now: the wish is heard
        for peer in self._peers.values():
            peer.send(ask=True)
        self._hear_promise(0, self._give_promise())

    def _give_promise(self) -> int:
        with self._state:
            self._promise = self._asked + 1
            return self._promise

    def _hear_promise(self, index: int, promise: int) -> None:
        with self._state:
            self._promises[index] = promise
            whole = len(self._promises) == self._place.total and self._promises[0] > 0
            last = max(self._promises.values())
        if whole:
            for peer in self._peers.values():
                peer.send(stop_at=last)
            self._hear_stop(last)

    def _hear_stop(self, stop_at: int) -> None:
        with self._state:
            self._stop_at = stop_at
            self._state.notify_all()

    def _hear_finished(self, index: int) -> None:
        with self._state:
            self._finished.add(index)
            whole = len(self._finished) == self._place.total
        if whole:
            self._ended.set()  # first: whoever hears it closes the connection
            for peer in self._peers.values():
                peer.send(ended=True)

    def _lose(self, index: int, cause: str) -> None:
        if self._told.is_set():
            return
        text = (
            f"{self._name(index)} was lost ({cause}); once all are there again, the same command "
            "continues from the newest checkpoint"
        )
        self._tell_over(text, LOST, 0.0, but=index)
        self._end(text, LOST, 0.0)

    def _tell_over(self, text: str, code: int, grace: float, but: int | None = None) -> None:
        """Process 0: tells the others what ends the job."""
        if self._place.process == 0:
            for index, peer in self._peers.items():
                if index != but:
                    peer.send(over=text, code=code, grace=grace)

    def _end(self, text: str, code: int, grace: float) -> None:
        """Ends this process with one line, unless it is about to report its own mistake."""
        if self._leaving.is_set():
            return
        self._lost = not grace
        self._told.set()
        if grace and self._leaving.wait(grace):
            return
        print(f"error: {text}", file=sys.stderr, flush=True)
        if self._place.process == 0:
            time.sleep(_LAST)
        leave(code)


def leave(code: int) -> None:
    """Ends this process at once: a normal exit would wait minutes for the other processes."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def join(facts: Mapping[str, Any], seconds: float) -> Iterator[Team]:
    """Makes this process one of several, as given by a cluster that JAX knows or three variables.

    Args:
        facts: what must be the same in all processes, by name.
        seconds: to wait for the others at the start, and for one that falls silent.

    Raises:
        ValueError: if nothing gives this process's place.
        UserError: if one of the others does not come, or is not of this job.
    """
    place = rollcall.place()
    import jax

    team = Team(place, rollcall.call(place, facts, seconds), seconds)
    try:
        _put_off_aborts()
        whole = max(int(seconds), 1)
        try:
            jax.distributed.initialize(
                place.address,
                place.total,
                place.process,
                initialization_timeout=whole,
                heartbeat_timeout_seconds=2 * whole + 10,  # ours come first, and tell more
                shutdown_timeout_seconds=whole,
                # JAX would give each process of Slurm's or Open MPI's one GPU, were it alone there.
                cluster_detection_method="deactivate" if alone_on_its_machine() else None,
            )
        except (RuntimeError, ValueError) as error:
            text = str(error).splitlines()[0]
            raise UserError(f"JAX does not start at {place.address}: {text}") from error
        yield team
    except BaseException as error:
        team.fail(error)
        raise
    team.finish()


def alone_on_its_machine() -> bool:
    """Returns whether Slurm or Open MPI has started one process on each machine, for all its GPUs."""
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("SLURM_TASKS_PER_NODE")
    each = re.sub(r"\(x\d+\)", "", tasks or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", ""))
    return set(each.split(",")) == {"1"}


def _put_off_aborts() -> None:
    """Makes a thread that aborts this process sleep first, so that ours can say why.

    When process 0 is killed, JAX's C++ aborts the others at once: `missed_heartbeat_callback` cannot
    be a Python function (jax 0.10.2: std::bad_cast). A signal handler that is C's own `sleep`, called
    with SIGABRT's number 6, needs nothing that the thread may hold; then the abort goes on.
    """
    with contextlib.suppress(OSError, AttributeError):
        c = ctypes.CDLL(None)
        c.signal.argtypes, c.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
        c.signal(signal.SIGABRT, ctypes.cast(c.sleep, ctypes.c_void_p))
