"""Reads what nearly all prototxt consists of, fast: ``name: value``, ``name {`` and ``}``.

Whatever looks unusual in any way (a list, joined strings, an escape, a mistake) is left to the
careful reader in :mod:`caffecompat.proto.text.parser`, which starts where this one stops. Both keep
their state in one :class:`Reading`.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from caffecompat.proto.descriptors import Field, Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.scalars import BOOLEANS

DEEPEST = 100
# How many unknown fields a lenient reader lists one by one.
MOST_LISTED = 100
# Whole numbers of so few digits fit every field.
_MOST_DIGITS = 9
_LONGEST_RUN = 1000

_VALUE, _QUOTED, _SINGLE_QUOTED, _OPENED, _CLOSED = range(2, 7)
# After each of them another name or a closing brace must follow, so that nothing can belong to it
# that the pattern has not seen: a second string, for instance, would be joined to the first.
_ORDINARY = re.compile(
    r"""
    (?:
      ([A-Za-z_][A-Za-z0-9_]*)\s*
      (?: :\s* (?: ([-+.A-Za-z0-9_]+)(?=[\s;,}#]) | "([^"\\\n]*)" | '([^'\\\n]*)' )
        | :?\s*(\{) )
      | (\})
    )
    \s* [;,]? \s* (?: \#[^\n]*\n\s* ){0,9} (?=[A-Za-z_}])
    |
    """,
    re.VERBOSE | re.ASCII,
)
# A message with at most one level of messages inside, and what follows it as above.
_BLOCK = re.compile(
    r"""
    ( [^{}]{0,300} (?: \{[^{}]{0,200}\} [^{}]{0,200} ){0,4} \} )
    \s* [;,]? \s* (?: \#[^\n]*\n\s* ){0,9} (?=[A-Za-z_}])
    """,
    re.VERBOSE | re.ASCII,
)
_MOST_BLOCKS = 1000
_DECIMAL = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_RUN_DECIMAL = re.compile(_DECIMAL)
_QUOTED_INSIDE = re.compile(r"""["]([^"\\\n]*)["]|[']([^'\\\n]*)[']""")
_RUN_ELEMENTS = {
    "whole": rf"(?:0|[1-9][0-9]{{0,{_MOST_DIGITS - 1}}})(?=[\s;,}}])",
    "float": rf"{_DECIMAL}(?=[\s;,}}])",
    "double": rf"{_DECIMAL}(?=[\s;,}}])",
    "string": r"""(?:"[^"\\\n]*"|'[^'\\\n]*')""",
}
_SIGNS = str.maketrans(":;,", "   ")


@dataclass
class Block:
    """A message in the text that may come again, letter by letter.

    Attributes:
        key: kind of message, and its text behind the opening brace.
        end: offset behind its closing brace.
        steps: of the reading when it began; more steps at its end mean that something in it was
            unusual.
        room: of the reading when it began; later what the inner messages take.
        message: once it is read.
    """

    key: tuple[str, str]
    end: int
    steps: int
    room: int
    message: Message = None


class OpenMessage:
    """A message that is being read."""

    __slots__ = ("block", "closer", "label", "layout", "message", "seen", "start")

    def __init__(
        self, label: str, fields: Layout, message: Message, start: int, closer: str
    ) -> None:
        self.label = label
        self.layout = fields
        self.message = message
        self.start = start
        self.closer = closer
        self.seen: dict[str, int] = {}
        self.block: Block | None = None


@dataclass
class Reading:
    """How far a text has been read, and what was found so far.

    Attributes:
        text: the prototxt.
        at: offset of what comes next.
        room: bytes of memory that the messages may still take.
        lenient: unknown fields are passed over.
        open: the messages around ``at``, outermost first.
        names, places: of every layer that was closed, its name and where it began.
        top_level: where each field at the top level stands.
        blocks: messages that may come again.
        steps: how often the fast reader has begun.
        unlisted: how many unknown fields were passed over without a word.
        listed: how many with one.
    """

    text: str
    at: int
    room: int
    lenient: bool
    open: list[OpenMessage] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    places: array[int] = field(default_factory=lambda: array("q"))
    top_level: dict[str, array[int]] = field(default_factory=dict)
    blocks: dict[tuple[str, str], Block] = field(default_factory=dict)
    steps: int = 0
    listed: int = 0
    unlisted: int = 0

    def close(self) -> None:
        """Takes the innermost message from the open ones."""
        entry = self.open.pop()
        if entry.layout.is_layer:
            self.names.append(layer_name(entry.message))
            self.places.append(entry.start)

    def passes_over_more(self) -> bool:
        """Whether one more unknown field is passed over without a word; counts it."""
        passes = self.lenient and self.listed >= MOST_LISTED
        self.unlisted += passes
        return passes

    def note_top_level(self, name: str, start: int) -> None:
        if name not in self.top_level:
            self.top_level[name] = array("q")
        self.top_level[name].append(start)


def layer_name(layer: Message) -> str:
    """The name of a layer of any generation."""
    name = layer.name
    if not name and layer.DESCRIPTOR.name == "V1LayerParameter":
        name = layer.layer.name
    return str(name)


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
        kind = match.lastindex
        if kind is None or kind == _CLOSED:
            if kind is None or len(reading.open) - 1 <= base or not _close(reading, match):
                break
            entry, last = reading.open[-1], None
            at = match.end()
            continue
        name, value = match.group(1, kind)
        target = entry.layout.fields.get(name)
        end = match.end()
        if target is None:
            if kind == _OPENED or not reading.passes_over_more():
                break
        elif target.kind == "message":
            if kind != _OPENED or not _open(reading, target, match.start()):
                break
            if len(reading.open) > 2:
                end = _copy_block(reading, match.end(_OPENED)) or end
            entry = reading.open[-1]
        elif (
            target is last
            and len(reading.open) > 1
            and (run := read_run(text, at, target, entry.message)) > at
        ):
            end = run
        elif kind == _OPENED or not _put(entry, target, kind, value, at):
            break
        else:
            last = target if target.repeated else None
            if len(reading.open) == 1:
                reading.note_top_level(name, at)
        at = end
    reading.at = at


def _open(reading: Reading, target: Field, start: int) -> bool:
    """Goes into a message; false where the careful reader must look at it."""
    entry = reading.open[-1]
    fields = target.inside
    if len(reading.open) >= DEEPEST or reading.room < fields.size:
        return False
    child = getattr(entry.message, target.name)
    if target.repeated:
        child = child.add()
    elif target.name in entry.seen:
        return False
    else:
        child.SetInParent()
        entry.seen[target.name] = start
    if len(reading.open) == 1:
        reading.note_top_level(target.name, start)
    reading.room -= fields.size
    reading.open.append(OpenMessage(target.name, fields, child, start, "}"))
    return True


def _close(reading: Reading, match: re.Match[str]) -> bool:
    entry = reading.open[-1]
    if entry.closer != "}" or entry.layout.required:
        return False
    block = entry.block
    if block is not None and block.end == match.end(_CLOSED) and block.steps == reading.steps:
        block.room -= reading.room
        block.message = entry.message
        reading.blocks[block.key] = block
    reading.close()
    return True


def _copy_block(reading: Reading, start: int) -> int | None:
    """Copies the message just opened, if one of the same text was read before.

    Nets say the same thing in each layer: fillers, multipliers, sizes of kernels.

    Returns:
        The offset after the message, which is closed then; None if its text is new.
    """
    match = _BLOCK.match(reading.text, start)
    if match is None:
        return None
    entry = reading.open[-1]
    key = entry.layout.name, match[1]
    known = reading.blocks.get(key)
    if known is None:
        if len(reading.blocks) < _MOST_BLOCKS:
            entry.block = Block(key, match.end(1), reading.steps, reading.room)
        return None
    if reading.room < known.room:
        return None
    entry.message.CopyFrom(known.message)
    reading.room -= known.room
    reading.close()
    return match.end()


def _put(entry: OpenMessage, target: Field, kind: int, text: str, start: int) -> bool:
    """Puts a value where it belongs; false where the careful reader must look at it."""
    value: Any
    if kind == _VALUE:
        value = _simple_value(target, text)
    elif not text.isascii():
        return False
    else:
        value = (
            text if target.kind == "string" else text.encode() if target.kind == "bytes" else None
        )
    if value is None:
        return False
    name = target.name
    if target.repeated:
        getattr(entry.message, name).append(value)
    elif name in entry.seen:
        return False
    else:
        entry.seen[name] = start
        setattr(entry.message, name, value)
    return True


def _simple_value(target: Field, text: str) -> int | float | bool | None:
    """The value of a word without quotes; None where it is not an ordinary one."""
    kind = target.kind
    if kind == "whole":
        ordinary = text.isdigit() and len(text) <= _MOST_DIGITS and (text[0] != "0" or text == "0")
        return int(text) if ordinary else None
    if kind == "enum":
        return target.numbers.get(text)
    if kind == "bool":
        return BOOLEANS.get(text)
    if kind in ("float", "double"):
        return float(text) if _RUN_DECIMAL.fullmatch(text) else None
    return None


def read_run(text: str, at: int, target: Field, message: Message) -> int:
    """Reads many values of one repeated field at once: ``data: 1 data: 2 ...``.

    Returns:
        The offset after them; ``at`` where there are none that this reader knows.
    """
    found = _named_run(target.name, target.kind)
    return _read_many(found, text, at, target, message)


def read_list_run(text: str, at: int, target: Field, message: Message) -> int:
    """The same for a list in brackets, from one of its values on, up to a comma after another."""
    return _read_many(_list_run(target.kind), text, at, target, message)


def _read_many(
    pattern: re.Pattern[str] | None, text: str, at: int, target: Field, message: Message
) -> int:
    if pattern is None:
        return at
    values = getattr(message, target.name)
    while match := pattern.match(text, at):
        run = match[0]
        if target.kind == "string":
            if not run.isascii():
                return at
            values.extend([a or b for a, b in _QUOTED_INSIDE.findall(run)])
        else:
            words = run.replace(target.name, " ").translate(_SIGNS).split()
            values.extend(map(int if target.kind == "whole" else float, words))
        at = match.end()
    return at


@cache
def _named_run(name: str, kind: str) -> re.Pattern[str] | None:
    element = _RUN_ELEMENTS.get(kind)
    if element is None:
        return None
    turn = rf"{name}\s*:\s*{element}\s*[;,]?\s*"
    return re.compile(rf"(?:{turn}){{1,{_LONGEST_RUN}}}(?=[A-Za-z_}}])", re.ASCII)


@cache
def _list_run(kind: str) -> re.Pattern[str] | None:
    element = _RUN_ELEMENTS.get(kind)
    if element is None:
        return None
    return re.compile(rf"(?:{element}\s*,\s*){{1,{_LONGEST_RUN}}}", re.ASCII)
