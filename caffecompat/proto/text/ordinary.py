"""Reads what nearly all prototxt consists of, fast: ``name: value``, ``name {`` and ``}``.

Whatever looks unusual in any way (joined strings, an escape, a mistake) is left to the careful
reader in :mod:`caffecompat.proto.text.parser`, which starts where this one stops. Both keep their
state in one :class:`~caffecompat.proto.text.reading.Reading`.
"""

from __future__ import annotations

import re
from typing import Any

from caffecompat.proto.descriptors import Field
from caffecompat.proto.schema import Message
from caffecompat.proto.text.known_blocks import find_block
from caffecompat.proto.text.reading import Begun, OpenMessage, Reading
from caffecompat.proto.text.runs import (
    DECIMAL,
    MOST_DIGITS,
    read_list_run,
    read_run,
    read_run_with_places,
)
from caffecompat.proto.text.scalars import BOOLEANS

DEEPEST = 100

_VALUE, _QUOTED, _SINGLE_QUOTED, _LISTED, _OPENED, _CLOSED = range(2, 8)
# After each of them another name or a closing brace must follow, so that nothing can belong to it
# that the pattern has not seen: a second string, for instance, would be joined to the first.
_NEXT = r"\s* [;,]? \s* (?: \#[^\n]*\n\s* ){0,9} (?=[A-Za-z_}])"
_ORDINARY = re.compile(
    rf"""
    (?:
      ([A-Za-z_][A-Za-z0-9_]*)\s*
      (?: :\s* (?: ([-+.A-Za-z0-9_]+)(?=[\s;,}}#]) | "([^"\\\n]*)" | '([^'\\\n]*)'
                | \[([^\[\]{{}}\#\\]{{0,1000}})\] )
        | :?\s*(\{{) )
      | (\}})
    )
    {_NEXT}
    """,
    re.VERBOSE | re.ASCII,
)
# The inside of an unknown message in which each brace is what it seems.
_NO_BRACE = r"""[^{}<>\[\]"'\#]{0,1000}"""
_UNKNOWN_BLOCK = re.compile(
    rf"{_NO_BRACE} (?: \{{ {_NO_BRACE} \}} {_NO_BRACE} ){{0,9}} \}} {_NEXT}", re.VERBOSE | re.ASCII
)
_DECIMAL = re.compile(DECIMAL)
_QUOTED_IN_LIST = re.compile(r"""\s*(?:"([^"\\\n]*)"|'([^'\\\n]*)')\s*(?:,(?!\s*$)|$)""", re.ASCII)
_BLANKS = " \t\r\n\v\f"


def read_ordinary(reading: Reading, base: int) -> None:
    """Reads on until something unusual comes.

    Args:
        reading: is taken forward; ``reading.at`` is where this reader stopped.
        base: the message with this number among the open ones is not closed here.
    """
    reading.steps += 1
    text, at = reading.text, reading.at
    last: Field | None = None
    entry = reading.open[-1]
    while (match := _ORDINARY.match(text, at)) is not None:
        kind = match.lastindex or 0
        if kind == _CLOSED:
            if len(reading.open) - 1 <= base or not _close(reading, match):
                break
            entry, last = reading.open[-1], None
            at = match.end()
            continue
        name, value = match.group(1, kind)
        target = entry.layout.fields.get(name)
        following: int | None = match.end()
        if target is None:
            following = _pass_over(reading, kind, match)
        elif kind == _OPENED:
            following = _read_message(reading, target, match)
            entry = reading.open[-1]
        elif target is last and (run := _read_run(reading, target, at)) > at:
            following = run
        else:
            count = _put(entry, target, kind, value, at)
            if count == 0:
                break
            last = target if target.repeated else None
            if len(reading.open) == 1:
                reading.places_of(name).extend([at] * count)
        if following is None:
            break
        at = following
    reading.at = at


def _read_message(reading: Reading, target: Field, match: re.Match[str]) -> int | None:
    """Goes into a message, or copies it whole if one of the same text was read before.

    Returns:
        The offset of what follows; None where the careful reader must look at it.
    """
    if target.kind != "message":
        return None
    entry, fields, start = reading.open[-1], target.inside, match.start()
    block = find_block(reading.text, match.end(_OPENED), fields.name)
    known = reading.known.get(block) if block is not None else None
    room = fields.size if known is None else fields.size + known.room
    if len(reading.open) >= DEEPEST or reading.room < room:
        return None
    child = getattr(entry.message, target.name)
    if target.repeated:
        child = child.add()
    elif target.name in entry.seen:
        return None
    else:
        child.SetInParent()
        entry.seen[target.name] = start
    if len(reading.open) == 1:
        reading.places_of(target.name).append(start)
    reading.room -= room
    if known is not None and block is not None:
        known.copy_to(child, block.strings)
        if fields.is_layer:
            reading.note_layer(child, start)
        return block.following
    inner = OpenMessage(target.name, fields, child, start, "}")
    if block is not None:
        inner.begun = Begun(block, reading.progress(), reading.room)
    reading.open.append(inner)
    return match.end()


def _close(reading: Reading, match: re.Match[str]) -> bool:
    entry = reading.open[-1]
    if entry.closer != "}" or entry.layout.required:
        return False
    begun = entry.begun
    if begun is not None and begun.progress == reading.progress():
        block = begun.block
        if block.end == match.end(_CLOSED):
            room = begun.room - reading.room
            reading.known.add(block, entry.layout, entry.message, room)
    reading.close()
    return True


def _pass_over(reading: Reading, kind: int, match: re.Match[str]) -> int | None:
    """The offset after an unknown field; None where the careful reader must look at it."""
    end = match.end()
    if kind == _LISTED:
        return None
    if kind == _OPENED:
        block = _UNKNOWN_BLOCK.match(reading.text, match.end(_OPENED))
        if block is None:
            return None
        end = block.end()
    return end if reading.passes_over_more() else None


def read_ordinary_list(
    reading: Reading, target: Field, message: Message, at: int, start: int
) -> int:
    """Reads values of a list in brackets as long as they are ordinary.

    Args:
        reading: its position stays as it is.
        target: the field.
        message: takes the values.
        at: offset of a value.
        start: offset of the field's name.

    Returns:
        The offset of another value of the list.
    """
    if target.kind == "message":
        return at
    values = getattr(message, target.name)
    before = len(values)
    end = read_list_run(reading.text, at, target, message)
    if len(reading.open) == 1:
        reading.places_of(target.name).extend([start] * (len(values) - before))
    return end


def _read_run(reading: Reading, target: Field, at: int) -> int:
    message = reading.open[-1].message
    if len(reading.open) > 1:
        return read_run(reading.text, at, target, message)
    places = reading.places_of(target.name)
    return read_run_with_places(reading.text, at, target, message, places)


def _put(entry: OpenMessage, target: Field, kind: int, text: str, start: int) -> int:
    """Puts a value, or those of a list, where they belong.

    Returns:
        How many there were; 0 where the careful reader must look at it.
    """
    name = target.name
    if kind == _LISTED:
        values = _list_values(target, text) if target.repeated else None
        if values is None:
            return 0
        getattr(entry.message, name).extend(values)
        return len(values)
    value = _simple_value(target, text) if kind == _VALUE else _text_value(target, text)
    if value is None:
        return 0
    if target.repeated:
        getattr(entry.message, name).append(value)
    elif name in entry.seen:
        return 0
    else:
        entry.seen[name] = start
        setattr(entry.message, name, value)
    return 1


def _text_value(target: Field, text: str) -> str | bytes | None:
    """The value of a string without escapes; None where it is not an ordinary one."""
    if not text.isascii():
        return None
    if target.kind == "string":
        return text
    return text.encode() if target.kind == "bytes" else None


def _list_values(target: Field, text: str) -> list[Any] | None:
    """The values of a list without its brackets; None where it is not an ordinary one."""
    if not text.isascii():
        return None
    if target.kind == "string":
        quoted = list(_QUOTED_IN_LIST.finditer(text))
        ordinary = sum(len(match[0]) for match in quoted) == len(text)
        return [match[1] or match[2] or "" for match in quoted] if ordinary else None
    values = [_simple_value(target, word.strip(_BLANKS)) for word in text.split(",")]
    return None if None in values else values


def _simple_value(target: Field, text: str) -> int | float | bool | None:
    """The value of a word without quotes; None where it is not an ordinary one."""
    kind = target.kind
    if kind == "whole":
        ordinary = text.isdigit() and len(text) <= MOST_DIGITS and (text[0] != "0" or text == "0")
        return int(text) if ordinary else None
    if kind == "enum":
        return target.numbers.get(text)
    if kind == "bool":
        return BOOLEANS.get(text)
    if kind in ("float", "double"):
        return float(text) if _DECIMAL.fullmatch(text) else None
    return None
