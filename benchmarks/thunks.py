"""What a GPU's program sends to the device, read in XLA's list of its thunks: a pure function.

XLA runs a GPU's program as a tree of thunks: kernels, copies, loops, and command buffers (CUDA
graphs), each of which sends many kernels at once. With --xla_dump_to it writes the tree as text.
"""

import re
from typing import NamedTuple

_THUNK = re.compile(r"^( *)\d+: k(\w+)")
_PART = re.compile(r"^ *(condition|body):\s*$")
_WAITS = ("WaitForStreams", "Done")


class Sent(NamedTuple):
    """What the host sends to the device in one pass."""

    graphs: int = 0  # command buffers
    recorded: int = 0  # kernels and copies inside them
    alone: int = 0  # kernels and copies sent one by one

    @property
    def times(self) -> int:
        """Returns how often the host sends something."""
        return self.graphs + self.alone


def sent(text: str) -> list[Sent]:
    """Returns what is sent outside the loops, then in one pass of each loop.

    Loops are in the order in which they begin. A loop's condition is left out: where XLA knows the
    number of passes it does not run. What a loop that is itself in a command buffer runs counts as
    recorded.

    Raises:
        ValueError: if the text is no list of thunks.
    """
    found = [Sent()]
    open_: list[tuple[int, str, int]] = []  # indentation, kind, which of `found`; outermost first
    in_condition = False
    for line in text.splitlines():
        if part := _PART.match(line):
            in_condition = part[1] == "condition"
            continue
        thunk = _THUNK.match(line)
        if not thunk:
            continue
        indent, kind = len(thunk[1]), thunk[2]
        if in_condition and open_ and indent > open_[-1][0]:
            continue
        in_condition = False
        while open_ and open_[-1][0] >= indent:
            open_.pop()
        section = next((n for _, outer, n in reversed(open_) if outer == "While"), 0)
        parents = [outer for _, outer, _ in open_]
        graph = "CommandBuffer" in parents
        if kind == "While":
            found.append(Sent())
            open_.append((indent, kind, len(found) - 1))
            continue
        open_.append((indent, kind, section))
        now = found[section]
        if kind == "CommandBuffer":
            found[section] = now._replace(graphs=now.graphs + 1)
        elif parents and parents[-1] not in ("CommandBuffer", "While", "Conditional", "Sequential"):
            continue  # a part of one launch, as the copy of a dynamic slice is
        elif kind in ("Conditional", "Sequential") or kind.endswith(_WAITS):
            continue
        elif graph:
            found[section] = now._replace(recorded=now.recorded + 1)
        else:
            found[section] = now._replace(alone=now.alone + 1)
    if len(found) == 1 and not any(found[0]):
        raise ValueError("expected XLA's list of thunks, got none")
    return found
