"""The binary form of values, of one or of many at once.

Binary forms are strings here, with a character for each byte. What is equal in many messages is one
string, what differs a list with a string for each of them: a *column*.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, repeat
from typing import Any, Protocol, TypeAlias

from caffecompat.proto.descriptors import Field
from caffecompat.proto.text.repeats.value_runs import DECIMAL
from caffecompat.proto.text.scalars import WrongValueError, read_word, unescaped, unescaped_all

Column: TypeAlias = str | list[str]

# Decimal, octal and hexadecimal numbers, none longer than the largest one of 64 bits.
_WHOLE = r"(?:[1-9][0-9]{0,19}|0[0-7]{0,21}|0[xX][0-9a-fA-F]{1,16})"
_DECIMAL = DECIMAL + "[fF]?"
# An octal or hexadecimal number in a list.
_NOT_DECIMAL = re.compile(r"\b0[0-9xX]|-0", re.ASCII)
# Values are made one by one where each comes so often.
_OFTEN = 4
# So many single values of a field are remembered.
_MOST_REMEMBERED = 200
_WIRE_WHOLE, _WIRE_DOUBLE, _WIRE_SIZED, _WIRE_FLOAT = 0, 1, 2, 5


class UnordinaryError(ValueError):
    """A value that the parser must read."""


@lru_cache(4096)
def varint(number: int) -> str:
    """A whole number in binary form."""
    number &= (1 << 64) - 1
    digits = ""
    while number >= 0x80:
        digits += chr(number & 0x7F | 0x80)
        number >>= 7
    return digits + chr(number)


def varints(numbers: list[int]) -> list[str]:
    """Many whole numbers in binary form."""
    low, high = min(numbers), max(numbers)
    if low >= 0 and high < 0x80:
        return list(map(chr, numbers))
    if low >= 0x80 and high < 0x4000:
        return [chr(number & 0x7F | 0x80) + chr(number >> 7) for number in numbers]
    if low >= 0x4000 and high < 0x200000:
        return [
            chr(number & 0x7F | 0x80) + chr(number >> 7 & 0x7F | 0x80) + chr(number >> 14)
            for number in numbers
        ]
    return list(map(varint, numbers))


def joined(parts: list[Column]) -> Column:
    """The parts of each message one after the other."""
    try:
        return "".join(parts)  # type: ignore[arg-type]
    except TypeError:  # one is a list
        pass
    merged: list[Iterable[str]] = []
    for is_equal, group in groupby(parts, lambda part: isinstance(part, str)):
        if is_equal:
            merged.append(repeat("".join(group)))  # type: ignore[arg-type]
        else:
            merged.extend(group)
    return list(map("".join, zip(*merged, strict=False)))  # those that repeat have no end


def sized(content: Column) -> list[Column]:
    """The length of something in binary form, and that itself."""
    if isinstance(content, str):
        return [varint(len(content)) + content]
    return [varints(list(map(len, content))), content]


class ValueForm(Protocol):
    """The form of the values of one field.

    Attributes:
        wire_type: of the binary form.
        pattern: a regular expression for the words of the text, without quotes; empty for strings.
    """

    wire_type: int
    pattern: str

    def parts(self, pieces: Sequence[Column]) -> list[Column]:
        """The binary form of a value, from its pieces (of a string, which are joined; else one).

        Raises:
            UnordinaryError: a value that must be read with care, such as a wrong one.
        """


class _Strings:
    wire_type = _WIRE_SIZED
    pattern = ""

    def parts(self, pieces: Sequence[Column]) -> list[Column]:
        return sized(string_contents(pieces))


def string_contents(pieces: Sequence[Column]) -> Column:
    """What strings say, a character for each byte.

    Args:
        pieces: of each string, without quotes.

    Raises:
        UnordinaryError: as :meth:`ValueForm.parts`.
    """
    if len(pieces) == 1:
        return _string_content(pieces[0])
    return joined([_string_content(piece) for piece in pieces])


def _string_content(piece: Column) -> Column:
    text = piece if isinstance(piece, str) else "".join(piece)
    if "\\" not in text and text.isascii():
        return piece
    if isinstance(piece, str):
        content = unescaped(piece)
        found: Column | None = None if content is None else content.decode("latin-1")
    else:
        found = unescaped_all(piece)
    if found is None:
        raise UnordinaryError
    return found


class _Numbers:
    """Numbers, and the numbers of booleans and enums."""

    def __init__(self, target: Field) -> None:
        self.wire_type = _WIRE_WHOLE
        self.pattern = ("-?" if target.low < 0 else "") + _WHOLE
        self._target = target
        self._made: dict[str, str] = {}

    def parts(self, pieces: Sequence[Column]) -> list[Column]:
        (column,) = pieces
        if isinstance(column, str):
            return [self._one(column)]
        distinct = list(set(column))
        if len(distinct) * _OFTEN > len(column):
            return [self._binary(self._read_all(column))]
        table = dict(zip(distinct, self._binary(self._read_all(distinct)), strict=True))
        return [list(map(table.__getitem__, column))]

    def _one(self, word: str) -> str:
        found = self._made.get(word)
        if found is None:
            (found,) = self._binary([self._read(word)])
            if len(self._made) < _MOST_REMEMBERED:
                self._made[word] = found
        return found

    def _read(self, word: str) -> Any:
        try:
            return read_word(self._target, word)
        except WrongValueError:
            raise UnordinaryError from None

    def _read_all(self, words: list[str]) -> list[Any]:
        return list(map(self._read, words))

    def _binary(self, numbers: list[Any]) -> list[str]:
        return varints(numbers)


class _WholeNumbers(_Numbers):
    def _read_all(self, words: list[str]) -> list[Any]:
        joined_words = "\n" + "\n".join(words)
        may_be_octal = "\n0" in joined_words or "\n-0" in joined_words
        if may_be_octal and _NOT_DECIMAL.search(joined_words):
            return super()._read_all(words)
        numbers = list(map(int, words))
        if min(numbers) < self._target.low or max(numbers) > self._target.high:
            raise UnordinaryError
        return numbers


class _Decimals(_Numbers):
    def __init__(self, target: Field) -> None:
        super().__init__(target)
        is_double = target.kind == "double"
        self.wire_type = _WIRE_DOUBLE if is_double else _WIRE_FLOAT
        self.pattern = _DECIMAL
        self._code, self._bytes = ("d", 8) if is_double else ("f", 4)

    def _read_all(self, words: list[str]) -> list[Any]:
        try:
            return list(map(float, words))
        except ValueError:  # "1f"
            return super()._read_all(words)

    def _binary(self, numbers: list[Any]) -> list[str]:
        try:
            content = struct.pack(f"<{len(numbers)}{self._code}", *numbers).decode("latin-1")
        except OverflowError:  # for what float32 cannot hold
            if len(numbers) > 1:
                return [self._binary([number])[0] for number in numbers]
            return self._binary([math.copysign(math.inf, numbers[0])])
        return [content[at : at + self._bytes] for at in range(0, len(content), self._bytes)]


def form_of(target: Field) -> ValueForm | None:
    """The form of a field's values; None for a message, and for strings of other rules."""
    if target.raw:
        return None
    if target.kind == "string":
        return _Strings()
    if target.kind == "whole":
        return _WholeNumbers(target)
    if target.kind in ("bool", "enum"):
        return _Numbers(target)
    return _Decimals(target) if target.kind in ("float", "double") else None
