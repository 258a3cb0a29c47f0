"""``param_str`` of Python layers, as far as the well-known ones write it: a part of YAML."""

from __future__ import annotations

import re
from typing import Any, NoReturn

# Longer ones are no settings, and deeper ones no lists of them.
MAX_LENGTH = 1 << 16
_MAX_DEPTH = 8

_KEY = re.compile(r"""(?:'([^']*)'|"([^"]*)"|([A-Za-z_][\w.\-]*))[ \t]*:(?=\s|$)[ \t]*""")
_QUOTED = re.compile(r"""'((?:[^']|'')*)'|"([^"\\]*)\"""")
_PLAIN = re.compile(r"[^,\[\]{}#\n]+")
_TAG = re.compile(r"!!(?:python/tuple|python/list|seq|int|float|bool|str)(?=[\s\[]|$)[ \t]*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_WORDS = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "on"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "off"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~"), None),
}


def parse_param_str(text: str) -> dict[str, Any]:
    """The settings in a ``param_str``.

    It holds ``key: value`` on each line, or ``{key: value, ...}``. Keys and texts may be quoted.
    Values are numbers, booleans, null, texts, and lists ``[a, b]``, which may be nested and may
    have YAML's tag ``!!python/tuple``; a list may also have its items on the following lines, each
    after a ``-``. Nothing is executed.

    Raises:
        ValueError: it is something else; a clause that says where.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it has {len(text)} characters, at most {MAX_LENGTH} are read")
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> dict[str, Any]:
        self._skip_lines()
        if self._text.startswith("{", self._at):
            settings = self._flow_mapping()
            self._skip_lines()
            if self._at < len(self._text):
                self._fail("after the closing }")
            return settings
        settings = {}
        while self._at < len(self._text):
            key = self._key()
            settings[key] = self._line_value()
            self._skip_lines()
        return settings

    def _key(self) -> str:
        found = _KEY.match(self._text, self._at)
        if found is None:
            self._fail("where a key and a colon are expected")
        self._at = found.end()
        return next(group for group in found.groups() if group is not None)

    def _line_value(self) -> Any:
        """The value after a key, on its line or as items on the following lines."""
        if self._ends_line():
            self._skip_lines()
            return self._items() if self._text.startswith("- ", self._at) else None
        value = self._value(0)
        if not self._ends_line():
            self._fail("after a value")
        return value

    def _items(self) -> list[Any]:
        items = []
        while self._text.startswith("- ", self._at):
            self._at += 2
            self._skip_spaces()
            items.append(self._value(0))
            if not self._ends_line():
                self._fail("after an item of a list")
            self._skip_lines()
        return items

    def _value(self, depth: int) -> Any:
        tag = _TAG.match(self._text, self._at)
        if tag is not None:
            self._at = tag.end()
        if self._text.startswith("[", self._at):
            return self._flow_list(depth + 1)
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            single, double = quoted.groups()
            return single.replace("''", "'") if single is not None else double
        plain = _PLAIN.match(self._text, self._at)
        if plain is None or plain[0][0] in "!&*|>%@`\"'":
            self._fail("where a value is expected")
        self._at = plain.end()
        return _scalar(plain[0].strip())

    def _flow_list(self, depth: int) -> list[Any]:
        if depth > _MAX_DEPTH:
            self._fail(f"where lists are nested more than {_MAX_DEPTH} times")
        self._at += 1
        items: list[Any] = []
        while True:
            self._skip_lines()
            if self._text.startswith("]", self._at):
                self._at += 1
                return items
            items.append(self._value(depth))
            self._separator("]")

    def _flow_mapping(self) -> dict[str, Any]:
        self._at += 1
        settings: dict[str, Any] = {}
        while True:
            self._skip_lines()
            if self._text.startswith("}", self._at):
                self._at += 1
                return settings
            key = self._key()
            settings[key] = self._value(0)
            self._separator("}")

    def _separator(self, closing: str) -> None:
        self._skip_lines()
        if self._text.startswith(",", self._at):
            self._at += 1
        elif not self._text.startswith(closing, self._at):
            self._fail(f"where a comma or {closing} is expected")

    def _ends_line(self) -> bool:
        self._skip_spaces()
        return self._at >= len(self._text) or self._text[self._at] in "#\r\n"

    def _skip_spaces(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t":
            self._at += 1

    def _skip_lines(self) -> None:
        """Skips white space, line ends and comments."""
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text[self._at].isspace():
                self._at += 1
            else:
                return

    def _fail(self, where: str) -> NoReturn:
        rest = self._text[self._at : self._at + 20]
        raise ValueError(f"it has {rest!r} {where}" if rest else f"it ends {where}")


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
