"""A Caffe net beside another program's architecture: which layer is which, and what differs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from caffecompat.errors import ExportError
from caffecompat.export.layouts.base import (
    CONVOLUTION,
    LINEAR,
    MAX_POOL,
    NORM,
    RELU,
    SUM,
    WITH_PARAMETERS,
    Architecture,
    Operation,
    layouts,
)

# How far back the two inputs of a sum are told apart.
DEPTH = 4
MOST_SHOWN = 8
# Kinds that one side may have in addition, so that the walk goes on behind them.
EXTRA = (NORM, RELU, "LRN", "Scale")


@dataclass
class Match:
    """The result of walking a net and an architecture side by side.

    Attributes:
        architecture: the architecture.
        pairs: for each of its operations with parameters, that and the one of the Caffe net.
        differences: sentences; empty where they agree.
    """

    architecture: Architecture
    pairs: list[tuple[Operation, Operation]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def find_architecture(output: Operation, place: str) -> Match:
    """The architecture that the net with this last operation has.

    Raises:
        ExportError: none agrees; the message says what differs from the nearest.
    """
    matches = [
        match_operations(architecture, output)
        for family in layouts
        for architecture in layouts.find(family)()
    ]
    best = min(matches, key=_distance)
    if best.differences:
        shown = best.differences[:MOST_SHOWN]
        more = len(best.differences) - len(shown)
        raise ExportError(
            "\n".join(
                [
                    f"{place}: differs from torchvision's {best.architecture.name}, to which it is "
                    "nearest, so its weights cannot be that net's:",
                    *(f"  {line}" for line in shown),
                    *([f"  and {more} more differences"] if more > 0 else []),
                ]
            )
        )
    return best


def match_operations(architecture: Architecture, output: Operation) -> Match:
    """Walks both from their ends to their inputs."""
    match = Match(architecture)
    todo, seen = [(architecture.output, output)], set()
    while todo:
        expected, found = _past_extras(*todo.pop(), match)
        if (expected, found) in seen:
            continue
        seen.add((expected, found))
        if expected.kind != found.kind or len(expected.inputs) != len(found.inputs):
            match.differences.append(
                f"{_who(found)} stands where torchvision has {_described(expected)}"
            )
            continue
        match.differences += _settings_that_differ(expected, found)
        if expected.kind in WITH_PARAMETERS:
            match.pairs.append((expected, found))
        todo += zip(_in_order(expected, found), found.inputs, strict=True)
    # The walk goes backwards; people read from the input on.
    match.pairs.reverse()
    match.differences.reverse()
    return match


def _distance(match: Match) -> tuple[bool, float, int]:
    """How far the net is from an architecture: the operations left over, then differences."""
    total = sum(1 for operation in all_operations(match.architecture.output) if operation.name)
    left_over = 1 - len(match.pairs) / total
    return (bool(match.differences), left_over, len(match.differences))


def all_operations(output: Operation) -> set[Operation]:
    """A net's operations, given its last."""
    found, todo = set(), [output]
    while todo:
        operation = todo.pop()
        if operation not in found:
            found.add(operation)
            todo += operation.inputs
    return found


def _past_extras(
    expected: Operation, found: Operation, match: Match
) -> tuple[Operation, Operation]:
    """The operations behind those that only one side has, which are noted as differences."""
    while expected.kind != found.kind:
        if found.kind in EXTRA and found.inputs[0].kind in (expected.kind, *EXTRA):
            match.differences.append(f"{_who(found)} has no counterpart in torchvision's net")
            found = found.inputs[0]
        elif expected.kind in EXTRA and expected.inputs[0].kind == found.kind:
            match.differences.append(
                f"{_who(found)} has no {expected.kind} behind it, as torchvision's net has"
            )
            expected = expected.inputs[0]
        else:
            break
    return expected, found


def _in_order(expected: Operation, found: Operation) -> tuple[Operation, ...]:
    """The inputs of ``expected`` in the order in which ``found`` has them; a sum has none."""
    if expected.kind != SUM:
        return expected.inputs
    ours = [_signature(operation, DEPTH) for operation in found.inputs]
    theirs = [_signature(operation, DEPTH) for operation in expected.inputs]
    swapped = ours[0] == theirs[1] or ours[1] == theirs[0]
    straight = ours[0] == theirs[0] or ours[1] == theirs[1]
    return expected.inputs[::-1] if swapped and not straight else expected.inputs


def _signature(operation: Operation, depth: int) -> tuple[Any, ...]:
    """What a operation is, and what is before it; kernels tell a shortcut from the way around."""
    before = tuple(_signature(other, depth - 1) for other in operation.inputs) if depth else ()
    return (operation.kind, operation.settings.get("kernel"), before)


def _settings_that_differ(expected: Operation, found: Operation) -> list[str]:
    if expected.kind == MAX_POOL:
        return _pooling_differs(expected, found)
    if expected.kind == LINEAR:
        wanted, have = expected.settings["map"], tuple(found.settings["map"])
        if wanted is None or have == wanted:
            return []
        return [
            f"{_who(found)} reads a map of {_text(have)}, torchvision's {expected.name} one of "
            f"{_text(wanted)}; the size of the input decides it"
        ]
    if expected.kind not in (CONVOLUTION, NORM):
        return []
    return [
        f"{_who(found)} has {name} {_text(found.settings[name])}, torchvision's {expected.name} "
        f"{_text(value)}"
        for name, value in expected.settings.items()
        if not _equal(found.settings[name], value)
    ]


def _pooling_differs(expected: Operation, found: Operation) -> list[str]:
    lines = [
        f"{_who(found)} has {name} {_text(found.settings[name])}, torchvision's pooling there "
        f"{_text(expected.settings[name])}"
        for name in ("kernel", "stride", "pad")
        if found.settings[name] != expected.settings[name]
    ]
    sizes = tuple(
        _pooled(size, expected, axis) for axis, size in enumerate(found.inputs[0].shape[2:])
    )
    if not lines and sizes != found.shape[2:]:
        lines.append(
            f"{_who(found)} gives a map of {_text(found.shape[2:])}, torchvision's pooling there "
            f"one of {_text(sizes)}: Caffe rounds up, ceil_mode: false in the prototxt rounds down"
        )
    return lines


def _pooled(size: int, expected: Operation, axis: int) -> int:
    """The extent that torch's pooling gives."""
    kernel, stride, pad = (expected.settings[name][axis] for name in ("kernel", "stride", "pad"))
    room = size + 2 * pad - kernel
    if not expected.settings["ceil"]:
        return room // stride + 1
    count: int = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pad else count


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float):
        # A prototxt's numbers are of 32 bits.
        return math.isclose(one, other, rel_tol=1e-6)
    return bool(one == other)


def _who(operation: Operation) -> str:
    return f"layer {operation.name!r} ({operation.kind})"


def _described(operation: Operation) -> str:
    return f"{operation.kind} {operation.name}".rstrip()


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value)) or "one value"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}"
