"""Reads blocks that come in an order in which they came before, many in one step.

A net of many layers repeats a few of them, different in strings and numbers only. One pattern finds
each block that came after the last one before; their binary form is put together from their values,
those of hundreds of blocks at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import compress

from caffecompat.proto.descriptors import Field
from caffecompat.proto.text.parse_state import ParseState
from caffecompat.proto.text.repeats.known_blocks import Known, KnownField
from caffecompat.proto.text.repeats.templates import Values
from caffecompat.proto.text.repeats.value_forms import Column, UnordinaryError
from caffecompat.proto.text.repeats.value_runs import read_run

# So many blocks are put together at once, and blocks of about so many characters.
_MOST_TOGETHER = 4000
_LONGEST_TOGETHER = 1 << 18
# Of one field so many values are found one by one.
_MOST_ALIKE = 6


@dataclass
class _Found:
    """Blocks that a pattern has found: of each the known one, its offset and its values."""

    blocks: list[Known] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)

    def part(self, begin: int, end: int) -> _Found:
        return _Found(self.blocks[begin:end], self.places[begin:end], self.values[begin:end])


def read_block_run(state: ParseState, last: Known, at: int) -> int:
    """Reads blocks in the innermost open message for as long as they come in a known order.

    Args:
        state: what is read is added to it.
        last: the block before them.
        at: the offset behind that.

    Returns:
        The offset of what follows.
    """
    around = state.open[-1].layout
    state.known.last[around] = last
    while last.followers:
        found, end = _find(state, at)
        added = _add(state, found)
        if added < len(found.blocks):
            end = found.places[added]
        if added:
            last = state.known.last[around] = found.blocks[added - 1]
        if isinstance(last, KnownField):
            end = _read_values(state, last.target, end)
        if end == at or added < len(found.blocks):
            return end
        at = end
    return at


def _read_values(state: ParseState, target: Field, at: int) -> int:
    """Reads the values of the same field that follow, for which there is a shorter way."""
    places = state.places_of(target.name) if len(state.open) == 1 else None
    return read_run(state.text, at, target, state.open[-1].message, places)


def _find(state: ParseState, at: int) -> tuple[_Found, int]:
    """The blocks from an offset on for which there is room, and the offset behind them."""
    text, room, limit = state.text, state.room, at + _LONGEST_TOGETHER
    last, same = state.known.last[state.open[-1].layout], 0
    found = _Found()
    while at < limit and len(found.places) < _MOST_TOGETHER and same < _MOST_ALIKE:
        for known in last.followers:
            match = known.pattern.match(text, at)
            if match is not None:
                break
        else:
            state.known.tried = at
            break
        room -= known.room
        if room < 0:
            break
        found.blocks.append(known)
        found.places.append(at)
        found.values.append(match.groups())
        same = same + 1 if known is last and isinstance(known, KnownField) else 0
        last, at = known, match.end()
    return found, at


def _add(state: ParseState, found: _Found) -> int:
    """Adds blocks to the message around them, up to the first one that must be read with care.

    Returns:
        How many were added.
    """
    if not found.blocks:
        return 0
    try:
        content = _content(found)
    except UnordinaryError:
        half = len(found.blocks) // 2
        added = _add(state, found.part(0, half))
        if added < half or not half:
            return added
        return added + _add(state, found.part(half, len(found.blocks)))
    state.open[-1].message.MergeFromString(content)
    _note(state, found)
    return len(found.blocks)


def _content(found: _Found) -> bytes:
    """The binary form of all blocks, one after the other."""
    first = found.blocks[0]
    if found.blocks.count(first) == len(found.blocks):
        content = _column(first, found.values)
        parts = [content] * len(found.blocks) if isinstance(content, str) else content
        return "".join(parts).encode("latin-1")
    places: dict[Known, list[int]] = {}
    for place, known in enumerate(found.blocks):
        places.setdefault(known, []).append(place)
    parts = [""] * len(found.blocks)
    for known, indices in places.items():
        content = _column(known, [found.values[index] for index in indices])
        for place, index in enumerate(indices):
            parts[index] = content if isinstance(content, str) else content[place]
    return "".join(parts).encode("latin-1")


def _column(known: Known, rows: list[Values]) -> Column:
    columns: list[Column] = []
    for column in zip(*rows, strict=True):
        is_equal = column.count(column[0]) == len(column)
        columns.append(column[0] if is_equal else list(column))
    return known.contents(columns)


def _note(state: ParseState, found: _Found) -> None:
    """Notes where the blocks stand, and what they take."""
    for known, count in Counter(found.blocks).items():
        state.room -= count * known.room
        state.unlisted += count * known.unlisted
    targets = {known.target for known in set(found.blocks)}
    for target in targets:
        places = found.places
        if len(targets) > 1:
            places = list(compress(places, [known.target is target for known in found.blocks]))
        if len(state.open) == 1:
            state.places_of(target.name).extend(places)
        if target.kind == "message" and target.inside.is_layer:
            layers = getattr(state.open[-1].message, target.name)[-len(places) :]
            state.note_layers(layers, places)
