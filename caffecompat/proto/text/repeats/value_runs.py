"""Reads many values of one repeated field at once, as blobs in a prototxt have them.

Each function takes an offset and returns the offset after what it has read, or the same one.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable
from functools import cache
from itertools import accumulate, count
from operator import add
from typing import Any

from caffecompat.proto.descriptors import Field
from caffecompat.proto.schema import Message
from caffecompat.proto.text.scalars import BOOLEANS

# Whole numbers of so few digits fit every field.
MOST_DIGITS = 9
DECIMAL = r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
# No two parts of these patterns take the same blanks, else a text of blanks takes quadratic time.
SEPARATOR = r"\s*(?:[;,]\s*)?"
_COMMENTS = r"(?:\#[^\n]*\n\s*){0,9}"
_GOES_ON = r"(?=[A-Za-z_}])"
# What stands between a field and another name or closing brace. One of these must follow, so that
# nothing can belong to the field that a pattern has not seen: a second string, for instance, would
# be joined to the first.
NEXT = SEPARATOR + _COMMENTS + _GOES_ON
_LONGEST_RUN = 1000
_ELEMENTS = {
    "whole": rf"(?:0|[1-9][0-9]{{0,{MOST_DIGITS - 1}}})(?=[\s;,}}#])",
    "float": rf"{DECIMAL}[fF]?(?=[\s;,}}#])",
    "double": rf"{DECIMAL}[fF]?(?=[\s;,}}#])",
    "bool": r"(?:[tT]rue|[fF]alse|[tf])(?=[\s;,}#])",
    "string": r"""(?:"[^"\\\n]*"|'[^'\\\n]*')""",
}


def decimal(word: str) -> float:
    """A decimal number, which may end in an ``f``."""
    try:
        return float(word)
    except ValueError:
        return float(word.rstrip("fF"))


_CONVERSIONS: dict[str, Callable[[str], int | float | str]] = {
    "whole": int,
    "float": decimal,
    "double": decimal,
    "bool": BOOLEANS.__getitem__,
    "string": lambda word: word[1:-1],
}
_INSIDE = re.compile(r"""["]([^"\\\n]*)["]|[']([^'\\\n]*)[']""")
_COMMENT = re.compile(r"#[^\n]*")
_SIGNS = str.maketrans(":;,", "   ")
# What numbers in a list consist of, up to a comma.
_WHOLE_NUMBERS = re.compile(r"([0-9, \t\r\n]{1,5000}),\s*", re.ASCII)
_NUMBERS = re.compile(r"([-+.0-9eE, \t\r\n]{1,5000}),\s*", re.ASCII)


def is_unicode(text: str) -> bool:
    """Whether all bytes of a file were UTF-8 here; others come as lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_run(
    text: str, at: int, target: Field, message: Message, places: array[int] | None = None
) -> int:
    """Reads ``data: 1 data: 2 ...`` from the first name on.

    Args:
        text: the prototxt.
        at: offset of the first name.
        target: the field.
        message: takes the values.
        places: takes the offset of each name.

    Returns:
        The offset after the values.
    """
    pattern = _named_run(target.name, target.kind)
    values = getattr(message, target.name)
    while pattern is not None and (match := pattern.match(text, at)):
        found, offsets = _named_values(match[0], at, target, places is not None)
        if target.kind == "string" and not is_unicode("".join(found)):
            break
        values.extend(found)
        if places is not None:
            places.extend(offsets)
        at = match.end()
    return at


def read_list_run(text: str, at: int, target: Field, message: Message) -> int:
    """The same for a list in brackets, from one of its values on, up to a comma after another."""
    values = getattr(message, target.name)
    if target.kind in ("float", "double"):
        at = _read_numbers(text, at, values)
    elif target.kind == "whole":
        at = _read_whole_numbers(text, at, target, values)
    pattern = _list_run(target.kind)
    while pattern is not None and (match := pattern.match(text, at)):
        if not is_unicode(match[0]):
            break
        values.extend(_values(match[0], target))
        at = match.end()
    return at


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
            numbers = _whole_numbers(match[1])
        except ValueError:
            break
        if max(numbers) > target.high:
            break
        values.extend(numbers)
        at = match.end()
    return at


def _whole_numbers(listed: str) -> list[int]:
    """Decimal and octal numbers with commas between them."""
    try:
        return _json_decoder(int)(f"[{listed}]")
    except ValueError:
        words = [word.strip() for word in listed.split(",")]
        if max(map(len, words)) > MOST_DIGITS:
            raise
        return [int(word, 8 if word[:1] == "0" else 10) for word in words]


@cache
def _json_decoder(whole: type[int] | type[float]) -> Callable[[str], list[Any]]:
    """Each number of JSON means the same in prototxt."""
    import json  # which most prototxts need not wait for

    return json.JSONDecoder(parse_int=whole).decode


def _named_values(
    run: str, at: int, target: Field, placed: bool
) -> tuple[list[Any], Iterable[int]]:
    """All values of a run with names, and where these begin if that is asked for.

    ``at`` is the offset of the run.
    """
    name, kind = target.name, target.kind
    commented = "#" in run
    found = _values(_COMMENT.sub("", run) if commented else run, target)
    if not placed and not (commented and kind == "string"):
        return found, ()
    before = run.split(name)[:-1]
    if not commented and len(before) == len(found):
        return found, map(add, accumulate(map(len, before)), count(at, len(name)))
    # The name may be in a string or a comment, or what looks like a string may be in a comment.
    turns = list(_turn(name, kind).finditer(run))
    return [_CONVERSIONS[kind](turn[1]) for turn in turns], [at + turn.start() for turn in turns]


def _values(run: str, target: Field) -> list[Any]:
    """All values of a run without comments, with or without the field's name before each."""
    if target.kind == "string":
        return _quoted(run)
    words = run.replace(target.name, " ").translate(_SIGNS).split()
    if target.kind in ("float", "double"):
        try:
            return [*map(float, words)]
        except ValueError:  # "1f"
            words = " ".join(words).replace("f", "").replace("F", "").split()
    return [*map(_CONVERSIONS[target.kind], words)]


def _quoted(run: str) -> list[str]:
    """The contents of all strings, where nothing but strings has quotes."""
    if "'" not in run:
        return run.split('"')[1::2]
    return [double or single for double, single in _INSIDE.findall(run)]


@cache
def _turn(name: str, kind: str) -> re.Pattern[str]:
    """One value with its name, and all up to the next one."""
    return re.compile(rf"{name}\s*:\s*({_ELEMENTS[kind]}){SEPARATOR}{_COMMENTS}", re.ASCII)


@cache
def _named_run(name: str, kind: str) -> re.Pattern[str] | None:
    if kind not in _ELEMENTS:
        return None
    turn = rf"{name}\s*:\s*{_ELEMENTS[kind]}{SEPARATOR}{_COMMENTS}"
    return re.compile(rf"(?:{turn}){{1,{_LONGEST_RUN}}}{_GOES_ON}", re.ASCII)


@cache
def _list_run(kind: str) -> re.Pattern[str] | None:
    element = _ELEMENTS.get(kind)
    if element is None:
        return None
    return re.compile(rf"(?:{element}\s*,\s*){{1,{_LONGEST_RUN}}}", re.ASCII)
