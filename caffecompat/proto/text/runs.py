"""Reads many values of one repeated field at once, as blobs in a prototxt have them.

Each function takes an offset and returns the offset after what it has read, or the same one.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

from caffecompat.proto.descriptors import Field
from caffecompat.proto.schema import Message

# Whole numbers of so few digits fit every field.
MOST_DIGITS = 9
DECIMAL = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
# No two parts of these patterns take the same blanks, else a text of blanks takes quadratic time.
_SEPARATOR = r"\s*(?:[;,]\s*)?"
_COMMENTS = r"(?:\#[^\n]*\n\s*){0,9}"
_GOES_ON = r"(?=[A-Za-z_}])"
# What stands between a field and another name or closing brace. One of these must follow, so that
# nothing can belong to the field that a pattern has not seen: a second string, for instance, would
# be joined to the first.
NEXT = _SEPARATOR + _COMMENTS + _GOES_ON
_LONGEST_RUN = 1000
_ELEMENTS = {
    "whole": rf"(?:0|[1-9][0-9]{{0,{MOST_DIGITS - 1}}})(?=[\s;,}}#])",
    "float": rf"{DECIMAL}(?=[\s;,}}#])",
    "double": rf"{DECIMAL}(?=[\s;,}}#])",
    "string": r"""(?:"[^"\\\n]*"|'[^'\\\n]*')""",
}
_CONVERSIONS: dict[str, Callable[[str], int | float | str]] = {
    "whole": int,
    "float": float,
    "double": float,
    "string": lambda word: word[1:-1],
}
_INSIDE = re.compile(r"""["]([^"\\\n]*)["]|[']([^'\\\n]*)[']""")
_COMMENT = re.compile(r"#[^\n]*")
_SIGNS = str.maketrans(":;,", "   ")
# What numbers in a list consist of, up to a comma, the first of them no octal one.
_WHOLE_NUMBERS = re.compile(r"((?!0[0-9])[0-9, \t\r\n]{1,5000}),\s*", re.ASCII)
_NUMBERS = re.compile(r"([-+.0-9eE, \t\r\n]{1,5000}),\s*", re.ASCII)


def read_run(text: str, at: int, target: Field, message: Message) -> int:
    """Reads ``data: 1 data: 2 ...`` from the first name on; returns the offset after them."""
    return _read_many(_named_run(target.name, target.kind), text, at, target, message)


def read_run_with_places(
    text: str, at: int, target: Field, message: Message, places: array[int]
) -> int:
    """The same up to a thousand values, and adds the offset of each name to ``places``."""
    turn = _named(target.name, target.kind)
    if turn is None:
        return at
    words: list[str] = []
    while len(words) < _LONGEST_RUN:
        match = turn.match(text, at)
        if match is None or not match[1].isascii():
            break
        places.append(at)
        words.append(match[1])
        at = match.end()
    getattr(message, target.name).extend(map(_CONVERSIONS[target.kind], words))
    return at


def read_list_run(text: str, at: int, target: Field, message: Message) -> int:
    """The same for a list in brackets, from one of its values on, up to a comma after another."""
    if target.kind in ("float", "double"):
        at = _read_numbers(text, at, getattr(message, target.name))
    elif target.kind == "whole":
        at = _read_whole_numbers(text, at, target, getattr(message, target.name))
    return _read_many(_list_run(target.kind), text, at, target, message)


def _read_numbers(text: str, at: int, values: list[float]) -> int:
    while match := _NUMBERS.match(text, at):
        try:
            # As an int, "-0" would lose its sign.
            values.extend(_json_decoder(float)(f"[{match[1]}]"))
        except ValueError:
            break
        at = match.end()
    return at


def _read_whole_numbers(text: str, at: int, target: Field, values: list[int]) -> int:
    while match := _WHOLE_NUMBERS.match(text, at):
        try:
            numbers = _json_decoder(int)(f"[{match[1]}]")
        except ValueError:  # an octal number, for one
            break
        if max(numbers) > target.high:
            break
        values.extend(numbers)
        at = match.end()
    return at


@cache
def _json_decoder(whole: type[int] | type[float]) -> Callable[[str], list[Any]]:
    """Each number of JSON means the same in prototxt."""
    import json  # which most prototxts need not wait for

    return json.JSONDecoder(parse_int=whole).decode


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
            values.extend([a or b for a, b in _INSIDE.findall(run)])
        else:
            if "#" in run:
                run = _COMMENT.sub("", run)
            words = run.replace(target.name, " ").translate(_SIGNS).split()
            values.extend(map(int if target.kind == "whole" else float, words))
        at = match.end()
    return at


@cache
def _named(name: str, kind: str) -> re.Pattern[str] | None:
    """One value with its name, and all up to the next name."""
    element = _ELEMENTS.get(kind)
    if element is None:
        return None
    return re.compile(rf"{name}\s*:\s*({element}){NEXT}", re.ASCII)


@cache
def _named_run(name: str, kind: str) -> re.Pattern[str] | None:
    element = _ELEMENTS.get(kind)
    if element is None:
        return None
    # A comment after a string may have strings in it.
    comments = "" if kind == "string" else _COMMENTS
    turn = rf"{name}\s*:\s*{element}{_SEPARATOR}{comments}"
    return re.compile(rf"(?:{turn}){{1,{_LONGEST_RUN}}}{_GOES_ON}", re.ASCII)


@cache
def _list_run(kind: str) -> re.Pattern[str] | None:
    element = _ELEMENTS.get(kind)
    if element is None:
        return None
    return re.compile(rf"(?:{element}\s*,\s*){{1,{_LONGEST_RUN}}}", re.ASCII)
