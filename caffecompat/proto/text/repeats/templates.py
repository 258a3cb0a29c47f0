"""Puts the binary form of messages together, from one of them and other strings and numbers.

Binary forms are strings here, with a character for each byte.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

from caffecompat.proto.descriptors import Field, Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.repeats.value_runs import DECIMAL, MOST_DIGITS
from caffecompat.proto.text.scalars import unescaped

Values = tuple[str, ...]
Form = Callable[[str], str]
# Stands for a value in a text.
GAP = "\0"

_DECIMAL = re.compile(DECIMAL)
# Names of fields, braces, and the places of values.
_PARTS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?=\s*[:{])|[{}\0]", re.ASCII)
# Of each inner message, so many different ones are remembered.
_MOST_REMEMBERED = 100


class UnordinaryError(ValueError):
    """A value that the parser must read."""


def varint(number: int) -> str:
    """A number in binary form."""
    digits = ""
    while number >= 0x80:
        digits += chr(number & 0x7F | 0x80)
        number >>= 7
    return digits + chr(number)


def length_key(field: Field) -> str:
    """What comes before the length of a string or message in binary form."""
    return varint(field.number << 3 | 2)


def _string(text: str) -> str:
    if "\\" in text or not text.isascii():
        text = _unescaped(text)
    size = len(text)
    return (chr(size) if size < 0x80 else varint(size)) + text


@lru_cache
def _unescaped(text: str) -> str:
    content = unescaped(text)
    if content is None:
        raise UnordinaryError
    return content.decode("latin-1")


@lru_cache
def _whole(text: str) -> str:
    if not text.isdigit() or len(text) > MOST_DIGITS or (text[0] == "0" and text != "0"):
        raise UnordinaryError
    return varint(int(text))


@lru_cache
def _float(text: str, form: str = "<f") -> str:
    if not _DECIMAL.fullmatch(text):
        raise UnordinaryError
    try:
        return struct.pack(form, float(text)).decode("latin-1")
    except OverflowError:
        raise UnordinaryError from None


# For each kind of field the wire type of its binary form, and how that is made.
_FORMS: dict[str, tuple[int, Form]] = {
    "string": (2, _string),
    "whole": (0, _whole),
    "float": (5, _float),
    "double": (1, partial(_float, form="<d")),
}


class Template:
    """The binary form of a message, of which strings and numbers are to be filled in."""

    def __init__(
        self, key: str, own: list[tuple[int, str, Form]], inner: list[Inner], rest: str
    ) -> None:
        """
        Args:
            key: what comes before the length of an inner message.
            own: the values of this message: index, key and form of each.
            inner: the inner messages.
            rest: the binary form of everything else.
        """
        self._key = key
        self._own = own
        self._inner = inner
        self._rest = rest
        self._remembered: dict[Values, str] = {}

    def content(self, values: Values) -> str:
        """The binary form with these values.

        Raises:
            UnordinaryError: for one of them.
        """
        parts: list[str] = []
        for index, key, form in self._own:
            parts += (key, form(values[index]))
        for begin, end, inner in self._inner:
            parts.append(inner.field(values[begin:end]))
        parts.append(self._rest)
        return "".join(parts)

    def field(self, values: Values) -> str:
        """The same as a field of the message around; the latest are remembered."""
        found = self._remembered.get(values)
        if found is None:
            content = self.content(values)
            found = self._key + varint(len(content)) + content
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[values] = found
        return found


# An inner message, and the indices of its first value and behind the last one.
Inner = tuple[int, int, Template]


@dataclass
class _Structure:
    """What belongs to a message: its own values, each by its index, and the inner messages."""

    fields: Layout | None
    begin: int
    end: int = 0
    own: list[tuple[int, Field]] = field(default_factory=list)
    inner: list[tuple[Field, _Structure]] = field(default_factory=list)


def template(text: str, fields: Layout, message: Message, values: Values) -> Template | None:
    """The template of a message; None where that cannot be put together again.

    One such case is a field that takes numbers and ``inf``, whose order would be lost.

    Args:
        text: of the message, behind its opening brace, with a NUL in the place of each value.
        fields: the layout of the message.
        message: what the text says with ``values``.
        values: strings and numbers.
    """
    structure = _structure(text, fields)
    if structure is None:
        return None
    rest = type(message)()
    rest.CopyFrom(message)
    made = _template(structure, "", rest)
    try:
        again = type(message).FromString(made.content(values).encode("latin-1"))
    except UnordinaryError:
        return None
    return made if again == message else None


def _structure(text: str, fields: Layout) -> _Structure | None:
    whole = _Structure(fields, 0)
    around, index, name = [whole], 0, ""
    for part in _PARTS.findall(text):
        here = around[-1]
        # What is inside an unknown field is none of the message.
        target = here.fields.fields.get(name) if here.fields is not None else None
        if part == "}":
            here.end = index
            if len(around) > 1:
                around.pop()
        elif part == "{":
            inner = _Structure(target.inside if target is not None else None, index)
            if target is not None:
                here.inner.append((target, inner))
            around.append(inner)
        elif part != GAP:
            name = part
        else:
            if target is not None:
                if target.kind not in _FORMS or target.raw:
                    return None
                here.own.append((index, target))
            index += 1
    return whole


def _template(structure: _Structure, key: str, message: Message) -> Template:
    """Removes what the structure has from the message; the rest is part of the template."""
    inner: list[Inner] = []
    found: Counter[str] = Counter()
    for target, part in structure.inner:
        child = getattr(message, target.name)
        child = child[found[target.name]] if target.repeated else child
        found[target.name] += 1
        made = _template(part, length_key(target), child)
        inner.append((part.begin - structure.begin, part.end - structure.begin, made))
    own: list[tuple[int, str, Form]] = []
    for index, target in structure.own:
        wire_type, form = _FORMS[target.kind]
        own.append((index - structure.begin, varint(target.number << 3 | wire_type), form))
        message.ClearField(target.name)
    for target, _ in structure.inner:
        message.ClearField(target.name)
    return Template(key, own, inner, message.SerializePartialToString().decode("latin-1"))
