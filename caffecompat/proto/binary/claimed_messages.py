"""Counts the memory that a binary message will take, before protobuf parses it.

An empty layer is 3 bytes in a file and 0.7 kB in memory, so a small file can fill a machine.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from caffecompat.input_files import ClaimedBytes
from caffecompat.proto.descriptors import layout

_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_MOST_VARINT_BYTES = 10
# protobuf reads no deeper ones.
_DEEPEST = 100
# A value of a list, or where a string stands.
_VALUE = 16
# Nearly all of a weight file is inside of these, as it will be in memory.
_AS_LARGE_AS_STORED = "BlobProto"
# No message takes more than 1,000 bytes without what is in it, or fewer than 2 in a file.
_MOST_PER_BYTE = 512


def most_memory(file_bytes: int) -> int:
    """The most that :func:`count_messages` can add for data of that size."""
    return _MOST_PER_BYTE * (file_bytes + 2)


class _Kind(NamedTuple):
    """A message: the memory of an empty one, and the kinds of its message fields by number.

    ``inside`` is None for one whose content takes about what it takes in the file.
    """

    size: int
    inside: dict[int, Any] | None


def count_messages(data: bytes, descriptor: Any, claimed: ClaimedBytes) -> None:
    """Adds what the messages and values in ``data`` would take to ``claimed``.

    Malformed data ends the count without an error: parsing the data raises it.

    Args:
        data: a serialised message.
        descriptor: of that message.

    Raises:
        FormatError: more is claimed than ``claimed`` admits.
    """
    open_messages = [(_kind(descriptor), len(data))]
    claimed.add(open_messages[0][0].size, "its messages")
    at = 0
    while open_messages:
        kind, end = open_messages[-1]
        if at >= end:
            open_messages.pop()
            continue
        key, at = _varint(data, at, end)
        wire = key & 7
        claimed.add(_VALUE, "its messages")
        if wire == _LENGTH:
            size, at = _varint(data, at, end)
            if size > end - at:
                return
            inner = kind.inside.get(key >> 3) if kind.inside is not None else None
            if inner is None:
                at += size
                continue
            child = _kind(inner)
            claimed.add(child.size, "its messages")
            if child.inside is None:
                at += size
            elif len(open_messages) > _DEEPEST:
                return
            else:
                open_messages.append((child, at + size))
        elif wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire in _WIDTHS:
            at += _WIDTHS[wire]
        elif wire not in (_GROUP, _END_GROUP):
            return


@cache
def _kind(descriptor: Any) -> _Kind:
    size = layout(descriptor).size
    if descriptor.name == _AS_LARGE_AS_STORED:
        return _Kind(size, None)
    fields = descriptor.fields
    return _Kind(size, {f.number: f.message_type for f in fields if f.message_type is not None})


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at ``at`` and the place behind it; ``end`` is behind all where it has no end."""
    value = 0
    for index in range(at, min(at + _MOST_VARINT_BYTES, end)):
        byte = data[index]
        value |= (byte & 0x7F) << (7 * (index - at))
        if byte < 0x80:
            return value, index + 1
    return 0, end
