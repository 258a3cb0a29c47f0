"""Reads blocks that come in the same order again and again, many in one step.

A net of many layers repeats a few of them, different in strings and numbers only. Where the block
that came after the last one the time before comes again, one pattern finds these, and its binary
form is put together from them; protobuf reads hundreds of such blocks at once.
"""

from __future__ import annotations

from caffecompat.proto.descriptors import Field
from caffecompat.proto.text.parse_state import ParseState
from caffecompat.proto.text.repeats.known_blocks import KnownBlock
from caffecompat.proto.text.repeats.templates import length_key, varint

# So many blocks are given to protobuf at once.
_MOST_TOGETHER = 500


def read_block_run(state: ParseState, target: Field, last: KnownBlock, at: int) -> int:
    """Reads blocks of the top level for as long as they come in the known order.

    Args:
        state: what is read is added to it.
        target: the field of the blocks, one that takes several.
        last: the block before them.
        at: the offset behind that.

    Returns:
        The offset of what follows.
    """
    text, room, size = state.text, state.room, target.inside.size
    key = length_key(target)
    parts, places = list[str](), list[int]()
    while (known := last.following) is not None and known.target is target:
        match = known.pattern.match(text, at)
        content = known.content(match.groups()) if match is not None else None
        if match is None or content is None or room < size + known.room:
            break
        parts += (key, varint(len(content)), content)
        places.append(at)
        if len(places) == _MOST_TOGETHER:
            _add(state, target, parts, places)
        room -= size + known.room
        state.unlisted += known.unlisted
        last, at = known, match.end()
    _add(state, target, parts, places)
    state.room, state.known.last = room, last
    return at


def _add(state: ParseState, target: Field, parts: list[str], places: list[int]) -> None:
    message = state.open[0].message
    message.MergeFromString("".join(parts).encode("latin-1"))
    state.places_of(target.name).extend(places)
    if target.inside.is_layer and places:
        state.note_layers(getattr(message, target.name)[-len(places) :], places)
    parts.clear()
    places.clear()
