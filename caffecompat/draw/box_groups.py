"""Groups of boxes that can be drawn as one: blocks with branches, repetitions, stages.

A *block* is what lies between a box and the box where its branches meet again, such as a residual
unit or an inception module. A *repetition* is a sequence of equal blocks or boxes. A *stage* is a
sequence whose names have the same first number, such as everything from conv3_1 to pool3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from caffecompat.draw.diagram import DrawnLayer
from caffecompat.draw.layer_boxes import Boxes

# A block of more boxes is a part of the net, not a unit of it.
_MOST_BOXES_OF_BLOCK = 60
_LONGEST_PERIOD = 6
_SHORTEST_PREFIX = 3
_TO = " … "
# Repetitions are shown as such from this many boxes in all, or this many blocks, on.
_FEWEST_BOXES, _FEWEST_BLOCKS = 4, 2


@dataclass(frozen=True)
class Group:
    """Boxes that can be drawn as one.

    Attributes:
        label: its name.
        kind: ``"block"``, ``"repetition"`` or ``"stage"``.
        boxes: all of them, also those of groups inside.
        count: of a repetition, how many times its first sequence occurs; else 1.
        parent: the position of the group around it, or None.
    """

    label: str
    kind: str
    boxes: tuple[int, ...]
    count: int = 1
    parent: int | None = None


@dataclass(frozen=True)
class _Unit:
    """A part of a sequence: one box, or a group; ``exit`` is its last box."""

    boxes: tuple[int, ...]
    exit: int
    group: Group | None = None


def groups_of(layers: Sequence[DrawnLayer], boxes: Boxes) -> tuple[Group, ...]:
    """The groups of a drawing, nested ones included; a group comes after the groups inside."""
    finder = _Finder(layers, boxes)
    blocks = finder.blocks()
    found = [unit.group for unit in blocks if unit.group]
    for chain in finder.chains(blocks):
        repeated = finder.repetitions(chain)
        staged = finder.stages(repeated)
        for unit in [*repeated, *staged]:
            if unit.group and unit.group not in found:
                found.append(unit.group)
    return _nested(found)


def _nested(groups: list[Group]) -> tuple[Group, ...]:
    """The groups with their parents; inner ones come first, so the next that holds one is it."""
    members = [frozenset(group.boxes) for group in groups]
    order = sorted(range(len(groups)), key=lambda i: (len(members[i]), groups[i].boxes))
    result = []
    for place, i in enumerate(order):
        later = range(place + 1, len(order))
        around = next((p for p in later if members[i] <= members[order[p]]), None)
        result.append(replace(groups[i], parent=around))
    return tuple(result)


class _Finder:
    """Looks for groups in the graph of boxes, data layers left out."""

    def __init__(self, layers: Sequence[DrawnLayer], boxes: Boxes) -> None:
        self._layers = layers
        self._members = boxes.members
        count = len(boxes.members)
        self._inner = [bool(layers[box[0]].bottoms) for box in boxes.members]
        self._before: list[list[int]] = [[] for _ in range(count)]
        self._after: list[list[int]] = [[] for _ in range(count)]
        for start, end in dict.fromkeys((edge.start, edge.end) for edge in boxes.edges):
            if self._inner[start]:
                self._before[end].append(start)
                self._after[start].append(end)
        self._height = [0] * count
        for box in reversed(range(count)):
            self._height[box] = max((self._height[n] + 1 for n in self._after[box]), default=0)

    # Blocks

    def blocks(self) -> list[_Unit]:
        """The largest blocks that are not too large; none overlaps another."""
        dominators = self._dominators()
        candidates = []
        for join, before in enumerate(self._before):
            entry = dominators[join]
            if len(before) > 1 and entry is not None:
                inside = self._between(entry, join)
                if inside and self._is_closed(inside, join):
                    candidates.append((*sorted(inside), join))
        taken: set[int] = set()
        found = []
        for boxes in sorted(candidates, key=len, reverse=True):
            if taken.isdisjoint(boxes):
                taken.update(boxes)
                label = _common_name([self._name(box) for box in boxes], self._name(boxes[-1]))
                found.append(_Unit(boxes, boxes[-1], Group(label, "block", boxes)))
        return found

    def _dominators(self) -> list[int | None]:
        """For each box the last box that every path to it passes; None without one."""
        depth: dict[int, int] = {}
        above: list[int | None] = []
        for box, before in enumerate(self._before):
            common = before[0] if before else None
            for other in before[1:]:
                common = _meet(common, other, above, depth)
            above.append(common)
            depth[box] = 0 if common is None else depth[common] + 1
        return above

    def _between(self, entry: int, join: int) -> set[int]:
        """The boxes on paths from ``entry`` to ``join``, these two left out."""
        found: set[int] = set()
        todo = [box for box in self._before[join] if box != entry]
        while todo and len(found) < _MOST_BOXES_OF_BLOCK:
            box = todo.pop()
            if box not in found:
                found.add(box)
                todo += [before for before in self._before[box] if before != entry]
        return found if not todo else set()

    def _is_closed(self, inside: set[int], join: int) -> bool:
        """Whether the boxes are read inside and by ``join`` only."""
        return all(after in inside or after == join for box in inside for after in self._after[box])

    # Sequences

    def chains(self, blocks: Sequence[_Unit]) -> list[list[_Unit]]:
        """Sequences of blocks and single boxes in which each reads the one before it only."""
        units = list(blocks)
        covered = {box for unit in units for box in unit.boxes}
        units += [
            _Unit((box,), box)
            for box, inner in enumerate(self._inner)
            if inner and box not in covered
        ]
        units.sort(key=lambda unit: unit.exit)
        following: dict[int, _Unit] = {}
        for unit in units:
            entries = {b for box in unit.boxes for b in self._before[box]} - set(unit.boxes)
            if len(entries) == 1:
                (entry,) = entries
                other = following.get(entry)
                if other is None or self._height[other.exit] < self._height[unit.exit]:
                    following[entry] = unit
        follows = {unit.exit for unit in following.values()}
        result = []
        for unit in units:
            if unit.exit not in follows or self._is_inside(unit, units):
                chain = [unit]
                while (after := following.get(chain[-1].exit)) is not None:
                    chain.append(after)
                result.append(chain)
        return result

    def _is_inside(self, unit: _Unit, units: Sequence[_Unit]) -> bool:
        """Whether the box before the unit is inside a block, so that no sequence reaches it."""
        exits = {one.exit for one in units}
        return all(before not in exits for before in self._before[unit.boxes[0]])

    def repetitions(self, chain: Sequence[_Unit]) -> list[_Unit]:
        """The sequence with equal parts in a row as one unit."""
        signatures = [self._signature(unit) for unit in chain]
        result: list[_Unit] = []
        at = 0
        while at < len(chain):
            period, count = _best_repetition(signatures, chain, at)
            part = list(chain[at : at + period * count])
            if count > 1:
                names = [self._label(part[0]), self._label(part[-1])]
                boxes = tuple(sorted(box for unit in part for box in unit.boxes))
                group = Group(_TO.join(names), "repetition", boxes, count)
                result.append(_Unit(boxes, part[-1].exit, group))
            else:
                result += part
            at += period * count
        return result

    def _signature(self, unit: _Unit) -> tuple[object, ...]:
        """Equal for units of the same types, settings, shapes and connections."""
        index = {box: i for i, box in enumerate(unit.boxes)}
        return tuple(
            (
                tuple((self._layers[i].type, self._layers[i].geometry) for i in self._members[box]),
                tuple(top.shape for top in self._layers[self._members[box][-1]].tops),
                tuple(p.shape for i in self._members[box] for p in self._layers[i].parameters),
                tuple(sorted(index.get(before, -1) for before in self._before[box])),
            )
            for box in unit.boxes
        )

    def stages(self, chain: Sequence[_Unit]) -> list[_Unit]:
        """The sequence with units under the same number as one unit."""
        result: list[_Unit] = []
        at = 0
        while at < len(chain):
            number = self._number(chain[at])
            end = at + 1
            while number and end < len(chain) and self._number(chain[end]) == number:
                end += 1
            part = list(chain[at:end])
            if len(part) > 1 and len(part) < len(chain):
                names = [self._label(unit) for unit in part]
                ends = names[0].split(_TO)[0], names[-1].split(_TO)[-1]
                label = _common_name(names, _TO.join(ends))
                boxes = tuple(sorted(box for unit in part for box in unit.boxes))
                result.append(_Unit(boxes, part[-1].exit, Group(label, "stage", boxes)))
            else:
                result += part
            at = end
        return result

    def _number(self, unit: _Unit) -> str:
        """The first number in the names of the unit, empty if they differ."""
        numbers = {_first_number(self._name(box)) for box in (unit.boxes[0], unit.exit)}
        return numbers.pop() if len(numbers) == 1 else ""

    def _name(self, box: int) -> str:
        return self._layers[self._members[box][0]].name

    def _label(self, unit: _Unit) -> str:
        return unit.group.label if unit.group else self._name(unit.exit)


def _meet(
    first: int | None, second: int | None, above: list[int | None], depth: dict[int, int]
) -> int | None:
    """The nearest box that dominates both."""
    while first is not None and second is not None and first != second:
        if depth[first] >= depth[second]:
            first = above[first]
        else:
            second = above[second]
    return first if first == second else None


def _best_repetition(
    signatures: Sequence[object], chain: Sequence[_Unit], at: int
) -> tuple[int, int]:
    """Length and number of the equal parts that cover the most from ``at`` on; (1, 1) for none."""
    best = (1, 1)
    for period in range(1, _LONGEST_PERIOD + 1):
        first = signatures[at : at + period]
        count = 1
        while signatures[at + count * period : at + (count + 1) * period] == first:
            count += 1
        has_block = any(unit.group for unit in chain[at : at + period])
        enough = count >= _FEWEST_BLOCKS and (has_block or period * count >= _FEWEST_BOXES)
        if enough and (has_block or count > 2) and period * count > best[0] * best[1]:
            best = (period, count)
    return best


def _first_number(name: str) -> str:
    found = re.search(r"\d+", name)
    return found[0] if found else ""


def _common_name(names: Sequence[str], otherwise: str) -> str:
    """The beginning that all names share, without a separator at its end."""
    # What the first and the last in order share, all share.
    first, last = min(names), max(names)
    same = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    prefix = first[: next(same, min(len(first), len(last)))]
    # A number must not be cut: of conv10 and conv11 the common part is conv.
    if any(name[len(prefix) : len(prefix) + 1].isdigit() for name in names):
        prefix = prefix.rstrip("0123456789")
    prefix = prefix.rstrip("/_-. ")
    return prefix if len(prefix) >= _SHORTEST_PREFIX else otherwise
