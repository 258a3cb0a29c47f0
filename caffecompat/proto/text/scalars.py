"""Reads single values of prototxt text: numbers, strings, booleans, enum names.

The rules are those of the text format of protobuf 3.21, which BVLC Caffe uses: whole numbers may
be decimal, octal (leading zero) or hexadecimal; floats may end in ``f``; a double-precision value
that float32 cannot hold becomes infinite.
"""

from __future__ import annotations

import io
import re
import unicodedata

from caffecompat.proto.descriptors import Field
from caffecompat.proto.schema import FORK_NUMBERS
from caffecompat.proto.text.hints import not_a_string_hint, unknown_name_hint
from caffecompat.proto.text.tokens import (
    CURLY,
    CURLY_QUOTES,
    END,
    IN_DOUBLE,
    IN_SINGLE,
    NAME,
    NUMBER,
    STRING,
    UNCLOSED,
    Tokens,
    loose_word,
    pieces,
)

_WHOLE = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_DECIMAL = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
_FIRST_OF_NUMBER = frozenset(".0123456789")
# More digits than any field holds; Python refuses to convert very long numbers.
_MOST_DIGITS = 64
BOOLEANS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_SPECIAL = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})"
    rb"|u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})"
    rb"|([abfnrtv\\?'\"])|\n|(.?))",
    re.DOTALL,
)
_SIMPLE_ESCAPES = dict(zip(b"abfnrtv\\?'\"", b"\a\b\f\n\r\t\v\\?'\"", strict=True))
# Strings in a row, none with many escapes.
_JOINED = re.compile(rf"""(?:[ \t\r\n\v\f]*(?:"{IN_DOUBLE}"|'{IN_SINGLE}')){{1,500}}""")
_STRING = re.compile(f"""\"{IN_DOUBLE}"|'{IN_SINGLE}'""")
# Stands between joined strings, so that no escape sequence goes from one into the next. It looks
# like one, but no string has a line end inside.
_SEAM = "\\\n"
# What the codec of Python reads otherwise than protobuf, in a text without "\\".
_RARE_ESCAPE = re.compile(rb"\\(?:[^abfnrtv'\"\n0-7x]|[4-7][0-7]{2}|x(?![0-9a-fA-F]{2}))")
# Stands between strings that are read at once: a byte that is in no UTF-8.
_BETWEEN = b"\xff"
# The escapes of a raw field, and the seam of joined strings.
_RAW_ESCAPE = re.compile(rb"\\(?:([\\\"'])|\n)")


class WrongValueError(ValueError):
    """A value does not fit its field; the message is the part of the sentence after the place."""


def read_scalar(token: Tokens, target: Field) -> int | float | bool | str | bytes:
    """Reads the value of a field that is no message, and moves ``token`` behind it.

    Raises:
        WrongValueError: the value is not of the field's type, or out of its range.
    """
    if token.kind == CURLY:
        raise _curly_quotes(target, token.word)
    if target.kind in ("string", "bytes"):
        if token.kind != STRING:
            word = loose_word(token)[0] if token.kind in (NAME, NUMBER) else token.word
            raise _not_a_string(target, token.kind, word)
        return read_string(target, token)
    negative = token.accept("-")
    number = read_value(target, token.kind, token.word, negative)
    token.advance()
    return number


def read_value(target: Field, kind: int, text: str, negative: bool) -> int | float | bool:
    """The value of one token (numbers, booleans, enums; strings have :func:`read_string`).

    Args:
        target: the field that takes the value.
        kind: kind of the token, see :mod:`caffecompat.proto.text.tokens`.
        text: characters of the token.
        negative: a minus sign stood before it.

    Raises:
        WrongValueError: the token does not fit the field.
    """
    if target.kind in ("float", "double"):
        return _read_float(target, kind, text, negative)
    if target.kind == "whole":
        return _read_whole(target, kind, text, negative)
    if target.kind == "bool":
        return _read_bool(target, kind, text, negative)
    return _read_enum(target, kind, text, negative)


def read_word(target: Field, word: str) -> int | float | bool:
    """The value of a word, or of a number with its sign.

    Raises:
        WrongValueError: the word does not fit the field.
    """
    negative = word[:1] == "-"
    text = word[1:] if negative else word
    kind = NUMBER if text[:1] in _FIRST_OF_NUMBER else NAME
    return read_value(target, kind, text, negative)


def _read_float(target: Field, kind: int, text: str, negative: bool) -> float:
    if kind == NUMBER and _DECIMAL.fullmatch(text):
        value = float(text.rstrip("fF"))
    elif kind == NAME and text.lower() in _SPECIAL:
        value = _SPECIAL[text.lower()]
    elif kind == NUMBER and _WHOLE.fullmatch(text):
        raise WrongValueError(f"{target.name} takes a decimal number, found {text}")
    else:
        raise WrongValueError(f"{target.name} takes a number, found {shown(kind, text)}")
    return -value if negative else value


def _read_whole(target: Field, kind: int, text: str, negative: bool) -> int:
    if kind != NUMBER or not _WHOLE.fullmatch(text):
        sign = "-" if negative else ""
        raise WrongValueError(
            f"{target.name} takes a whole number, found {sign}{shown(kind, text)}"
        )
    value = -_number(text) if negative else _number(text)
    # -0 is refused for unsigned fields like any other minus sign there.
    if not target.low <= value <= target.high or (negative and target.low == 0):
        sign = "-" if negative else ""
        raise WrongValueError(
            f"{target.name} is {sign}{_shortened(text)}, "
            f"out of its range {target.low} to {target.high}"
        )
    return value


def _number(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        return 2**64
    return int(text, 8) if text.isdigit() and text[0] == "0" else int(text, 0)


def _read_bool(target: Field, kind: int, text: str, negative: bool) -> bool:
    if not negative:
        if kind == NAME and text in BOOLEANS:
            return BOOLEANS[text]
        if kind == NUMBER and _WHOLE.fullmatch(text) and _number(text) in (0, 1):
            return _number(text) == 1
    sign = "-" if negative else ""
    raise WrongValueError(f"{target.name} takes true or false, found {sign}{shown(kind, text)}")


def _read_enum(target: Field, kind: int, text: str, negative: bool) -> int:
    if kind == NAME and not negative:
        if text in target.numbers:
            return target.numbers[text]
        raise WrongValueError(
            f"{target.name} has no value {text!r}{unknown_name_hint(text, target.numbers)}"
        )
    if kind == NUMBER and _WHOLE.fullmatch(text):
        value = _read_whole(target, kind, text, negative)
        # The numbers of forks' values are our own, so a file cannot refer to them.
        numbers = {n: name for name, n in target.numbers.items() if n not in FORK_NUMBERS}
        if value in numbers:
            return value
        known = ", ".join(f"{number} ({name})" for number, name in numbers.items())
        raise WrongValueError(f"{target.name} has no value {value}; known: {known}")
    sign = "-" if negative else ""
    hint = unknown_name_hint(text.strip("\"'"), target.numbers)
    raise WrongValueError(
        f"{target.name} takes a name without quotes, found {sign}{shown(kind, text)}{hint}"
    )


def read_string(target: Field, token: Tokens) -> str | bytes:
    """The value of adjacent strings, which are joined.

    Args:
        target: a field for text or bytes.
        token: the first string; is moved behind the last one.

    Raises:
        WrongValueError: an unknown escape sequence, a missing closing quote, or bytes that are not
            UTF-8 in a string field.
    """
    raw = io.BytesIO()
    while token.kind == STRING:
        # Many short strings, all at once.
        run = _JOINED.match(token.text, token.start)
        if run is not None:
            raw.write(_unescape(_joined(run[0]), target.raw, target.name))
            token.go_to(run.end())
        else:
            _write_unescaped(raw, target, token.text, token.start)
            token.advance()
    if token.kind == UNCLOSED:
        raise _not_a_string(target, token.kind, token.word)
    if target.kind == "bytes":
        return raw.getvalue()
    try:
        return raw.getbuffer().tobytes().decode("utf-8")
    except UnicodeDecodeError:
        raise WrongValueError(
            f"{target.name} is not valid UTF-8: {raw.getvalue()[:40]!r}; save the file as UTF-8"
        ) from None


def unescaped(text: str, raw: bool = False) -> bytes | None:
    """The bytes that the content of a string stands for; None where a text cannot say that.

    Args:
        text: without its quotes.
        raw: of the field, see :class:`~caffecompat.proto.descriptors.Field`.
    """
    try:
        content = _unescape(text, raw)
        content.decode()
    except ValueError:  # an unknown escape sequence, or bytes that are not UTF-8
        return None
    return content


def _joined(strings: str) -> str:
    """The contents of adjacent strings; a separator stands between them if one has escapes."""
    seam = _SEAM if "\\" in strings else ""
    quote, other = ('"', "'") if '"' in strings else ("'", '"')
    if other in strings or "\\" + quote in strings:
        return seam.join([string[1:-1] for string in _STRING.findall(strings)])
    return seam.join(strings.split(quote)[1::2])


def _write_unescaped(raw: io.BytesIO, target: Field, text: str, start: int) -> None:
    """Piece by piece: a long string with many escapes takes much memory as a whole."""
    begin = start + 1
    for end in pieces(text, begin, text[start]):
        raw.write(_unescape(text[begin:end], target.raw, target.name))
        begin = end


def unescaped_all(texts: list[str]) -> list[str] | None:
    """The same for many strings at once, a character for each byte; None if one cannot be said.

    Args:
        texts: without their quotes, as they stand on one line each; none ends inside an escape
            sequence.
    """
    try:
        encoded = "\n".join(texts).encode()
        if b"\\" not in encoded:
            return encoded.decode("latin-1").split("\n")
        content = _unescape_bytes(encoded.replace(b"\n", _BETWEEN), raw=False)
        content.replace(_BETWEEN, b"\n").decode()
    except ValueError:  # an unknown escape sequence, or bytes that are not UTF-8
        return None
    found = content.decode("latin-1").split(_BETWEEN.decode("latin-1"))
    return found if len(found) == len(texts) else None


def _unescape(text: str, raw: bool, name: str = "") -> bytes:
    return _unescape_bytes(_encoded(text), raw, name)


def _unescape_bytes(encoded: bytes, raw: bool, name: str = "") -> bytes:
    def replace(match: re.Match[bytes]) -> bytes:
        if match[0] == _SEAM.encode():
            return b""
        octal, two, high, low, four, eight, simple, wrong = match.groups()
        if octal:
            return bytes([int(octal, 8) & 0xFF])
        if two:
            return bytes([int(two, 16)])
        if simple:
            return bytes([_SIMPLE_ESCAPES[simple[0]]])
        if high:
            pair = chr(int(high, 16)) + chr(int(low, 16))
            return pair.encode("utf-16", "surrogatepass").decode("utf-16").encode("utf-8")
        point = int(four or eight or b"110000", 16)
        if wrong is None and point < 0x110000 and not 0xD800 <= point < 0xE000:
            return chr(point).encode("utf-8")
        sequence = match[0].decode("utf-8", "replace")
        raise WrongValueError(
            f"{name} has an unknown escape sequence {sequence}; write \\\\ for a backslash"
        )

    if b"\\" not in encoded:
        return encoded
    if raw:
        return _RAW_ESCAPE.sub(rb"\1", encoded)
    if not _RARE_ESCAPE.search(encoded.replace(b"\\\\", b"..")):
        return encoded.decode("unicode_escape").encode("latin-1")
    return _ESCAPE.sub(replace, encoded)


def _encoded(text: str) -> bytes:
    """The bytes of the file again: what was no UTF-8 there became lone surrogates on reading."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _curly_quotes(target: Field, text: str) -> WrongValueError:
    """The mistake of a value in typographic quotes."""
    inside = _shortened(text.strip(CURLY_QUOTES))
    return WrongValueError(
        f'{target.name} has curly quotes; write straight ones: {target.name}: "{inside}"'
    )


def _not_a_string(target: Field, kind: int, text: str) -> WrongValueError:
    """The mistake of a token in the place of a string."""
    hint = not_a_string_hint(target.name, text) if kind in (NAME, NUMBER) else ""
    return WrongValueError(
        f"{target.name} takes a string in quotes, found {shown(kind, text)}{hint}"
    )


def shown(kind: int, text: str) -> str:
    """A token as shown in error messages."""
    if kind == END:
        return "the end of the file"
    if kind == UNCLOSED:
        return f"a string without its closing quote: {_shortened(text)}"
    if kind == STRING:
        return f"the string {_shortened(text)}"
    if len(text) == 1 and ord(text) > 127 and not text.isprintable():
        return f"{_named(text)}; write an ordinary space instead of it"
    return _shortened(text) if text.isprintable() else repr(text)


def _named(character: str) -> str:
    """A character that cannot be seen, as copied from a web page: its name and number."""
    name = unicodedata.name(character, "a character")
    return f"{name.lower()} (U+{ord(character):04X})"


def _shortened(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= 40 else f"{text[:37]}..."
