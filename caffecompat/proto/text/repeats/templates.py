"""Puts the binary form of messages together, from one of them and other strings and numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from caffecompat.proto.descriptors import Field, Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.repeats.value_forms import (
    Column,
    UnordinaryError,
    ValueForm,
    form_of,
    joined,
    sized,
    varint,
)

Values: TypeAlias = tuple[str, ...]
# Stands for a value in a text.
GAP = "\0"

# Names of fields, braces, and the places of values; strings without a comma between are one value.
_PARTS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?=\s*[:{])|[{}]|\0(?:\s*\0)*", re.ASCII)
# Of each inner message, so many different ones are remembered.
_MOST_REMEMBERED = 100

# A value: the indices of its first piece and behind the last one, what comes before it in binary
# form, and its form.
Own: TypeAlias = tuple[int, int, str, ValueForm]


class Template:
    """The binary form of a message, of which strings and numbers are to be filled in.

    Args:
        key: what comes before the length of the message.
        own: the values of this message.
        inner: the inner messages.
        rest: the binary form of everything else.
    """

    def __init__(self, key: str, own: list[Own], inner: list[Inner], rest: str) -> None:
        self._key = key
        self._own = own
        self._inner = inner
        self._rest = rest
        self._remembered: dict[Values, list[Column]] = {}

    def content(self, values: Sequence[Column]) -> Column:
        """The binary form with these values, of one message or of many at once.

        Raises:
            UnordinaryError: for one of them.
        """
        parts: list[Column] = []
        for begin, end, key, form in self._own:
            parts.append(key)
            parts += form.parts(values[begin:end])
        for begin, end, inner in self._inner:
            parts += inner.field(values[begin:end])
        parts.append(self._rest)
        return joined(parts)

    def field(self, values: Sequence[Column]) -> list[Column]:
        """The same as a field of the message around, in parts."""
        if not isinstance(values, tuple):  # of many messages
            return [self._key, *sized(self.content(values))]
        found = self._remembered.get(values)
        if found is None:
            found = [self._key, *sized(self.content(values))]
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[values] = found
        return found


# An inner message, and the indices of its first value and behind the last one.
Inner: TypeAlias = tuple[int, int, Template]


@dataclass
class _Structure:
    """What belongs to a message: its own values, each by its indices, and the inner messages."""

    fields: Layout | None
    begin: int
    end: int = 0
    own: list[tuple[int, int, Field, ValueForm]] = field(default_factory=list)
    inner: list[tuple[Field, _Structure]] = field(default_factory=list)


class Made(NamedTuple):
    """The template of a block.

    Attributes:
        template: the template.
        patterns: for each value the regular expression that its field wants; empty for strings, and
            for what belongs to an unknown field.
        name: of a layer, the indices of its name's first piece and behind the last one.
    """

    template: Template
    patterns: list[str]
    name: tuple[int, int] | None


def template(text: str, fields: Layout, message: Message, values: Values) -> Made | None:
    """The template of a message; None where that cannot be put together again.

    One such case is a field that takes numbers and ``inf``, whose order would be lost.

    Args:
        text: of the message, behind its opening brace, with a NUL in the place of each value.
        fields: the layout of the message.
        message: what the text says with ``values``.
        values: strings and numbers.
    """
    patterns = [""] * len(values)
    structure = _structure(text, fields, patterns)
    if structure is None:
        return None
    rest = type(message)()
    rest.CopyFrom(message)
    made = _template(structure, "", rest)
    try:
        content = made.content(values)
    except UnordinaryError:
        return None
    again = type(message).FromString(str(content).encode("latin-1"))
    # Their bytes are compared, since nan does not equal itself.
    is_same = again.SerializePartialToString() == message.SerializePartialToString()
    return Made(made, patterns, _name(structure)) if is_same else None


def _name(structure: _Structure) -> tuple[int, int] | None:
    # What an older layer has as its name may be in a message inside.
    if structure.fields is None or structure.fields.name != "LayerParameter":
        return None
    found = [(begin, end) for begin, end, target, _ in structure.own if target.name == "name"]
    return found[0] if found else None


def _structure(text: str, fields: Layout, patterns: list[str]) -> _Structure | None:
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
        elif part[0] != GAP:
            name = part
        else:
            end = index + part.count(GAP)
            if target is not None:
                form = form_of(target)
                if form is None:
                    return None
                here.own.append((index, end, target, form))
                patterns[index:end] = [form.pattern] * (end - index)
            index = end
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
    own: list[Own] = []
    for begin, end, target, form in structure.own:
        place = (begin - structure.begin, end - structure.begin)
        own.append((*place, value_key(target, form), form))
        message.ClearField(target.name)
    for target, _ in structure.inner:
        message.ClearField(target.name)
    return Template(key, own, inner, message.SerializePartialToString().decode("latin-1"))


def value_key(target: Field, form: ValueForm) -> str:
    """What comes before a value in binary form."""
    return varint(target.number << 3 | form.wire_type)


def length_key(target: Field) -> str:
    """What comes before the length of a message in binary form."""
    return varint(target.number << 3 | 2)
