"""What a compiled program launches, counted in its text: pure functions of what XLA prints.

XLA prints a program (`compiled.as_text()`) as computations of instructions, one a line. What runs
on the device are the instructions of the entry computation and of the loops that it enters: every
fusion, library call, copy or collective is a launch; parameters, tuples, bitcasts and the like are
none. A loop's body counts as often as XLA says it runs.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# Opcodes and call targets that only name, group or reserve what exists or will exist.
_NO_LAUNCH = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "domain"}
    | {"add-dependency", "opt-barrier", "partition-id", "replica-id"}
)
_NO_CALL = frozenset({"AllocateBuffer", "ConcatBitcast", "Sharding"})
_COLLECTIVES = frozenset(
    {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all"}
    | {"collective-permute", "collective-broadcast"}
)
# A fusion's sort: by its end, if that says where its result goes or comes from,
_AT_END = {
    "dynamic-update-slice": "store",
    "dynamic-slice": "slice",
    "slice": "slice",
    "pad": "pad",
}
# otherwise by the first of these among the fused instructions,
_INSIDE = {
    "dot": "product",
    "convolution": "product",
    "reduce": "reduction",
    "reduce-window": "reduction",
    "scatter": "scatter",
    "sort": "sort",
    "transpose": "transpose",
    "concatenate": "concatenation",
}
# otherwise by its end again.
_PLAIN_END = {"copy": "copy", "reshape": "copy", "broadcast": "fill", "iota": "fill"}
SORTS = (
    *("product", "library product", "reduction", "transpose", "concatenation", "elementwise"),
    *("store", "slice", "copy", "pad", "fill", "sort", "scatter", "collective", "call"),
)

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*-> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"\s*([\w\-]+)\((.*)$")
_NAMES = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_LIBRARY = re.compile(r"gemm|matmul|cublas|cudnn|conv", re.IGNORECASE)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    shape: str  # of its result, such as f32[100,256]{1,0}
    opcode: str
    rest: str  # operands, attributes and metadata
    root: bool


class Program(NamedTuple):
    """A compiled program."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str


class Loop(NamedTuple):
    """A while loop and what each pass through it launches."""

    name: str  # of the operation it comes from, such as jit(update)/jvp(Draw)/while
    trips: int | None  # None = XLA does not know
    launches: "Launches"


class Launches(NamedTuple):
    """What a computation launches, loops apart."""

    kernels: Counter[str]  # by sort
    loops: list[Loop]

    def flat(self) -> Counter[str]:
        """Returns the launches by sort, those of every loop as often as it runs.

        Raises:
            ValueError: if XLA does not know how often that is.
        """
        found = Counter(self.kernels)
        for loop in self.loops:
            if loop.trips is None:
                raise ValueError(f"expected a known number of passes, got the loop {loop.name}")
            for kind, count in loop.launches.flat().items():
                found[kind] += loop.trips * count
        return found

    def every_loop(self, times: int = 1) -> list[tuple[Loop, int]]:
        """Returns the loops in the order in which they begin, nested ones after their outer one.

        Args:
            times: how often this is launched.

        Returns:
            Each loop with its total passes; a number unknown to XLA counts as one.
        """
        found: list[tuple[Loop, int]] = []
        for loop in self.loops:
            passes = times * (loop.trips or 1)
            found += [(loop, passes), *loop.launches.every_loop(passes)]
        return found


def parse(text: str) -> Program:
    """Returns the computations of a program in XLA's text form.

    Raises:
        ValueError: if it has no entry.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, lines = "", None
    for line in text.splitlines():
        if heading := _COMPUTATION.match(line):
            lines = computations.setdefault(heading[2], [])
            entry = heading[2] if heading[1] else entry
        elif lines is not None and (match := _INSTRUCTION.match(line)):
            shape, rest = _split_shape(match[2])
            if opcode := _OPCODE.match(rest):
                root = line.lstrip().startswith("ROOT ")
                lines.append(Instruction(match[1], shape, opcode[1], opcode[2], root))
    if not entry:
        raise ValueError("expected the text of a compiled program, got one without an ENTRY")
    return Program(computations, entry)


def _split_shape(text: str) -> tuple[str, str]:
    """Returns the type at the head of an instruction, which may be a nested tuple, and the rest."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == " " and not depth:
            return text[:place], text[place:]
    return text, ""


def launches(program: Program, computation: str = "") -> Launches:
    """Returns what a computation launches, by default the whole program.

    For a conditional, the branch with most launches counts.
    """
    kernels: Counter[str] = Counter()
    loops: list[Loop] = []

    def add(found: Launches) -> None:
        kernels.update(found.kernels)
        loops.extend(found.loops)

    computation = computation or program.entry
    for each in program.computations[computation]:
        if each.opcode == "while":
            found = launches(program, called(each, "body"))
            loops.append(Loop(op_name(each), trips(program, each, computation), found))
        elif each.opcode == "conditional":
            branches = [launches(program, name) for name in _branches(each)]
            add(max(branches, key=lambda found: found.kernels.total()))
        elif each.opcode == "call":
            add(launches(program, called(each, "to_apply")))
        elif kind := sort(program, each):
            kernels[kind] += 1
    return Launches(kernels, loops)


def trips(program: Program, loop: Instruction, computation: str) -> int | None:
    """Returns how often a loop's body runs, None if that cannot be seen.

    A GPU's compiler says it. Otherwise it is derived if the loop counts in steps of 1 from one
    constant up to another.

    Args:
        program: the whole.
        loop: an instruction of opcode while.
        computation: the one that it is in.
    """
    if known := _TRIPS.search(loop.rest):
        return int(known[1])
    condition = program.computations[called(loop, "condition")]
    body = program.computations[called(loop, "body")]
    last = next(each for each in condition if each.root)
    if last.opcode != "compare" or "direction=LT" not in last.rest:
        return None
    counter, end = (_origin(condition, name) for name in _operands(last))
    place = re.search(r"index=(\d+)", counter.rest if counter else "")
    if not place or not end:
        return None
    start = _element(program.computations[computation], _operands(loop)[0], int(place[1]))
    following = _element(body, next(each.name for each in body if each.root), int(place[1]))
    if not start or not following or following.opcode != "add":
        return None
    added = [_origin(body, name) for name in _operands(following)]
    steps = [_constant(each) for each in added if each and each.opcode == "constant"]
    first, stop = _constant(start), _constant(end)
    return stop - first if steps == [1] and first is not None and stop is not None else None


def _element(within: Sequence[Instruction], name: str, place: int) -> Instruction | None:
    """Returns what an element of a tuple comes from."""
    whole = _origin(within, name)
    return _origin(within, _operands(whole)[place]) if whole and whole.opcode == "tuple" else None


def _origin(within: Sequence[Instruction], name: str) -> Instruction | None:
    """Returns what a name stands for, looking through copies."""
    found = next((each for each in within if each.name == name), None)
    return _origin(within, _operands(found)[0]) if found and found.opcode == "copy" else found


def _constant(instruction: Instruction) -> int | None:
    match = re.match(r"(-?\d+)\)", instruction.rest)
    return int(match[1]) if instruction.opcode == "constant" and match else None


def sort(program: Program, instruction: Instruction) -> str:
    """Returns which of SORTS an instruction is; "" if it launches nothing."""
    opcode = instruction.opcode
    if opcode in _NO_LAUNCH or opcode.endswith(("-done", "-update")):
        return ""
    begun = opcode.removesuffix("-start")
    if begun == "async":
        name = called(instruction, "calls")
        inside = [sort(program, each) for each in program.computations[name]]
        return next((kind for kind in inside if kind), "call")
    if begun in _COLLECTIVES:
        return "collective"
    if opcode == "custom-call":
        target = re.search(r'custom_call_target="([^"]+)"', instruction.rest)
        if target and target[1] in _NO_CALL:
            return ""
        return "library product" if target and _LIBRARY.search(target[1]) else "call"
    if opcode == "fusion":
        return _fusion_sort(program.computations[called(instruction, "calls")])
    if opcode != begun:  # from one memory to another, while others compute
        return "copy"
    return _AT_END.get(opcode) or _INSIDE.get(opcode) or _PLAIN_END.get(opcode) or "elementwise"


def _fusion_sort(fused: Sequence[Instruction]) -> str:
    opcodes = {each.opcode for each in fused}
    ends = {each.opcode for each in _ends(fused)}
    end = ends.pop() if len(ends) == 1 else ""
    if not {"dot", "convolution"} & opcodes and end in _AT_END:
        return _AT_END[end]
    inside = next((kind for opcode, kind in _INSIDE.items() if opcode in opcodes), "")
    return inside or _PLAIN_END.get(end, "elementwise")


def _ends(fused: Sequence[Instruction]) -> list[Instruction]:
    """Returns what the results of a fusion come from, behind tuples, bitcasts and copies."""
    by_name = {each.name: each for each in fused}
    waiting = [each for each in fused if each.root]
    ends = []
    while waiting:
        each = waiting.pop()
        behind = [by_name[name] for name in _operands(each) if name in by_name]
        through = each.opcode in ("tuple", "bitcast") or (
            each.opcode == "copy" and all(one.opcode != "parameter" for one in behind)
        )
        waiting += behind if through else []
        ends += [] if through else [each]
    return ends


def _operands(instruction: Instruction) -> list[str]:
    return _NAMES.findall(instruction.rest.split(")")[0])


def called(instruction: Instruction, attribute: str) -> str:
    """Returns the computation that an attribute of an instruction names.

    Raises:
        ValueError: if the instruction has no such attribute.
    """
    match = re.search(rf"\b{attribute}=%?([\w.\-]+)", instruction.rest)
    if not match:
        raise ValueError(f"expected {attribute}= of {instruction.name}, got {instruction.rest}")
    return match[1]


def _branches(conditional: Instruction) -> list[str]:
    listed = re.search(r"branch_computations=\{([^}]*)\}", conditional.rest)
    if listed:
        return _NAMES.findall(listed[1])
    return [called(conditional, f"{which}_computation") for which in ("true", "false")]


def op_name(instruction: Instruction) -> str:
    """Returns the operation of JAX that an instruction comes from, "" if unknown."""
    match = re.search(r'op_name="([^"]*)"', instruction.rest)
    return match[1] if match else ""
