"""Reads blocks that come in an order in which they came before, many in one step.

A net of many layers repeats a few of them, different in strings and numbers only. One pattern finds
each block that came after the last one before; their binary form is put together from their values,
those of hundreds of blocks at once.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import compress
from typing import NamedTuple

from caffecompat.proto.descriptors import Field
from caffecompat.proto.schema import Message
from caffecompat.proto.text.parse_state import FIELD, ParseState
from caffecompat.proto.text.repeats.known_blocks import Known
from caffecompat.proto.text.repeats.templates import Values
from caffecompat.proto.text.repeats.value_forms import Column, UnordinaryError
from caffecompat.proto.text.repeats.value_runs import read_run

# So many blocks are put together at once, and blocks of about so many characters.
_MOST_TOGETHER = 4000
_LONGEST_TOGETHER = 1 << 16
# Of one field so many values are found one by one.
_MOST_ALIKE = 6


@dataclass
class _Found:
    """Blocks that a pattern has found: of each the known one, its offset and its values."""

    places: array[int]
    blocks: list[Known] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)

    def part(self, begin: int, end: int) -> _Found:
        return _Found(self.places[begin:end], self.blocks[begin:end], self.values[begin:end])


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
    while last.followers and state.work <= state.most_work:
        found, end = _find(state, at)
        added = _add(state, found)
        state.work += FIELD
        if added < len(found.blocks):
            end = found.places[added]
        if added:
            last = state.known.last[around] = found.blocks[added - 1]
        if not last.is_message:
            end = read_values(state, last.target, end)
        if end == at or added < len(found.blocks):
            return end
        at = end
    return at


def read_values(state: ParseState, target: Field, at: int) -> int:
    """Reads the values of the same field that follow, for which there is a shorter way."""
    places = state.places_of(target.name) if len(state.open) == 1 else None
    return read_run(state.text, at, target, state.open[-1].message, places)


def _find(state: ParseState, at: int) -> tuple[_Found, int]:
    """The blocks from an offset on for which there is room, and the offset behind them."""
    text, room, limit = state.text, state.room, at + _LONGEST_TOGETHER
    last, same = state.known.last[state.open[-1].layout], 0
    found = _Found(state.offsets())
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
        same = 0 if known.is_message or known is not last else same + 1
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
        if len(found.blocks) == 1:
            _add_one(state, found.blocks[0], found.places[0], found.values[0])
            return 1
        made = _put_together(found)
    except UnordinaryError:
        half = len(found.blocks) // 2
        added = _add(state, found.part(0, half))
        if added < half or not half:
            return added
        return added + _add(state, found.part(half, len(found.blocks)))
    state.open[-1].message.MergeFromString("".join(made.content).encode("latin-1"))
    for known, count in Counter(found.blocks).items():
        state.room -= count * known.room
        state.unlisted += count * known.unlisted
        # A single field is so short that a text may have many millions.
        state.work += 0 if known.is_message else count * FIELD // 4
    if len(state.open) == 1:
        _note_places(state, found)
    _note_layers(state, found, made)
    return len(found.blocks)


def _add_one(state: ParseState, known: Known, at: int, values: Values) -> None:
    message, target = state.open[-1].message, known.target
    message.MergeFromString(str(known.contents(values)).encode("latin-1"))
    state.room -= known.room
    state.unlisted += known.unlisted
    if len(state.open) == 1:
        state.places_of(target.name).append(at)
    if target.holds_layers:
        state.note_layer(getattr(message, target.name)[-1], at)


class _Made(NamedTuple):
    """Of each block the binary form, and the name of each layer, unless one is not in its text."""

    content: list[str]
    names: list[str] | None


def _put_together(found: _Found) -> _Made:
    rows: dict[Known, list[int]] = {}
    for index, known in enumerate(found.blocks):
        rows.setdefault(known, []).append(index)
    count = len(found.blocks)
    content, names, named = [""] * count, [""] * count, True
    for known, indices in rows.items():
        columns = _columns([found.values[index] for index in indices])
        _fill(content, indices, known.contents(columns))
        if named and known.target.holds_layers:
            name = known.names(columns)
            named = name is not None
            _fill(names, indices, name or "")
    return _Made(content, names if named else None)


def _columns(rows: list[Values]) -> list[Column]:
    columns: list[Column] = []
    for column in zip(*rows, strict=True):
        first = column[0]
        is_equal = first == column[-1] and column.count(first) == len(column)
        columns.append(first if is_equal else list(column))
    return columns


def _fill(into: list[str], indices: list[int], column: Column) -> None:
    """Puts what belongs to some of the blocks to these."""
    if isinstance(column, str):
        column = [column] * len(indices)
    if len(indices) == len(into):
        into[:] = column
        return
    for index, entry in zip(indices, column, strict=True):
        into[index] = entry


def _note_places(state: ParseState, found: _Found) -> None:
    targets = {known.target for known in set(found.blocks)}
    for target in targets:
        places = found.places
        if len(targets) > 1:
            chosen = [known.target is target for known in found.blocks]
            places = state.offsets(*compress(found.places, chosen))
        state.places_of(target.name).extend(places)


def _note_layers(state: ParseState, found: _Found, made: _Made) -> None:
    are_layers = {known.target.holds_layers for known in set(found.blocks)}
    if are_layers == {True} and made.names is not None:
        state.note_names(made.names, found.places)
    elif True in are_layers:
        layers = [known.target.holds_layers for known in found.blocks]
        places = state.offsets(*compress(found.places, layers))
        if made.names is not None:
            state.note_names(list(compress(made.names, layers)), places)
        else:
            state.note_layers(_added_layers(state.open[-1].message, found), places)


def _added_layers(message: Message, found: _Found) -> list[Message]:
    """The layers that were just added to a message, in the order of the text."""
    targets = [known.target for known in found.blocks if known.target.holds_layers]
    added = {target: iter(_last(message, target, targets.count(target))) for target in set(targets)}
    return [next(added[target]) for target in targets]


def _last(message: Message, target: Field, count: int) -> list[Message]:
    layers: list[Message] = getattr(message, target.name)[-count:]
    return layers
