"""Reads blocks that come in the same order again and again, many in one step.

A net of many layers repeats a few of them, in strings different only. Where the block that came
after the last one the time before comes again, one pattern finds its strings, and its binary form
is put together from them; protobuf reads hundreds of such blocks at once.
"""

from __future__ import annotations

from caffecompat.proto.descriptors import Field
from caffecompat.proto.text.known_blocks import KnownBlock, length_key, varint
from caffecompat.proto.text.parse_state import ParseState

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
    text, size = state.text, target.inside.size
    key, places = length_key(target), state.places_of(target.name)
    parts: list[str] = []
    while (known := last.following) is not None and known.pattern is not None:
        match = known.pattern.match(text, at) if known.target is target else None
        if match is None or state.room < size + known.room:
            break
        strings = match.groups()
        content = known.content(strings)
        parts += (key, varint(len(content)), content)
        if len(parts) >= 3 * _MOST_TOGETHER:
            _add(state, parts)
        places.append(at)
        if target.inside.is_layer:
            state.note_name(known.name(strings), at)
        state.room -= size + known.room
        last, at = known, match.end()
    _add(state, parts)
    state.known.last = last
    return at


def _add(state: ParseState, parts: list[str]) -> None:
    state.open[0].message.MergeFromString("".join(parts).encode("latin-1"))
    parts.clear()
