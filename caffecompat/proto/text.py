"""Reads prototxt text, as strictly as BVLC Caffe, and reports all of its mistakes together.

The grammar is the text format of protobuf 3.21: fields ``name: value`` or ``name { ... }``, lists
in brackets, ``;`` or ``,`` after a field, ``< >`` for ``{ }``, ``#`` comments, adjacent strings
joined. Unknown fields, unknown enum names, a singular field given twice, values of a wrong type or
out of range and missing required fields are mistakes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import NoReturn

from caffecompat.errors import TextError
from caffecompat.proto.format_text import format_text
from caffecompat.proto.hints import unknown_field_hint
from caffecompat.proto.layout import Field, Layout, layout
from caffecompat.proto.schema import Message, new
from caffecompat.proto.source import Positions, Source
from caffecompat.proto.tokens import END, NAME, NUMBER, SIGN, STRING, UNCLOSED, tokenize
from caffecompat.proto.values import WrongValueError, no_string, read_string, read_value
from caffecompat.proto.values import shown as shown_token
from caffecompat.proto.wrong_files import mistaken_kind, wrong_text

__all__ = ["format_text", "parse_text"]

_DEEPEST = 100
# Ending of the field of the united schema that takes several values in the place of a single one.
_SEVERAL = "_list"
_CLOSERS = {"{": "}", "<": ">", "[": "]"}


def parse_text(
    text: str, message: str, path: str = "<text>", lenient: bool = False
) -> tuple[Message, Source]:
    """Read prototxt text into a message.

    Args:
        text: the prototxt; bytes of a file that are not UTF-8 may come as lone surrogates
            (``errors="surrogateescape"``): they are refused in strings only, not in comments.
        message: name of the message, e.g. ``"NetParameter"``.
        path: name of the file, for messages.
        lenient: skip unknown fields; they are listed in ``Source.warnings``.

    Returns:
        The message, and where its layers stand in the text.

    Raises:
        TextError: one sentence for each mistake, with file, line and column.
        UnknownName: the schema has no message of that name.
    """
    result = new(message)
    wrong = wrong_text(text)
    if wrong is not None:
        raise TextError([f"{path}: {wrong}, expected prototxt text ({message})"])
    parser = _Parser(text, path, lenient)
    parser.read(result, layout(result.DESCRIPTOR))
    if parser.mistakes:
        mistaken = mistaken_kind(message, parser.top_level_names)
        if mistaken is not None:
            raise TextError([f"{path}: {mistaken}"])
        raise TextError(parser.sentences(parser.mistakes))
    return result, parser.source()


@dataclasses.dataclass
class _Open:
    """A message that is being read."""

    label: str
    layout: Layout
    message: Message
    start: int
    seen: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Mistake:
    start: int
    sentence: str
    layer: Message | None


class _UnreadableError(Exception):
    """After a mistake in the structure nothing that follows can be told apart."""


class _Parser:
    def __init__(self, text: str, path: str, lenient: bool) -> None:
        self._positions = Positions(text)
        self._path = path
        self._lenient = lenient
        tokens = tokenize(text)
        self._kinds, self._texts, self._starts = tokens.kinds, tokens.texts, tokens.starts
        self._at = 0
        self._open: list[_Open] = []
        self._layers: list[tuple[Message, int]] = []
        self._skipped: list[_Mistake] = []
        self._top_level: dict[str, list[int]] = {}
        self.mistakes: list[_Mistake] = []
        self.top_level_names: set[str] = set()

    def read(self, message: Message, fields: Layout) -> None:
        """Read the whole text into ``message``; mistakes are collected, not raised."""
        with contextlib.suppress(_UnreadableError):
            self._read_message(_Open(fields.name, fields, message, 0), closer="")

    def source(self) -> Source:
        """Where the layers stand; to be asked after a read without mistakes."""
        lines: dict[str, list[int]] = {}
        for layer, start in self._layers:
            lines.setdefault(_layer_name(layer), []).append(self._positions.locate(start)[0])
        return Source(
            self._path,
            {name: tuple(places) for name, places in lines.items()},
            tuple(self.sentences(self._skipped)),
            fields={
                name: tuple(self._positions.locate(start)[0] for start in starts)
                for name, starts in self._top_level.items()
            },
        )

    def sentences(self, mistakes: list[_Mistake]) -> list[str]:
        """Mistakes in order of place, each with file, line, column and layer."""
        result = []
        for mistake in sorted(mistakes, key=lambda entry: entry.start):
            line, column = self._positions.locate(mistake.start)
            name = "" if mistake.layer is None else _layer_name(mistake.layer)
            who = f"layer {name!r}: " if name else ""
            result.append(f"{self._path}:{line}:{column}: {who}{mistake.sentence}")
        return result

    # ---- structure

    def _read_message(self, entry: _Open, closer: str) -> None:
        self._open.append(entry)
        if len(self._open) > _DEEPEST:
            self._stop(entry.start, f"messages are nested more than {_DEEPEST} deep")
        if entry.layout.is_layer:
            self._layers.append((entry.message, entry.start))
        while self._kinds[self._at] == NAME:
            self._read_field(entry)
        if self._texts[self._at] != closer:
            self._refuse_structure(entry, closer)
        self._at += bool(closer)
        missing = [name for name in entry.layout.required if name not in entry.seen]
        if missing:
            self._report(entry.start, f"{entry.label} needs {' and '.join(missing)}")
        self._open.pop()

    def _refuse_structure(self, entry: _Open, closer: str) -> NoReturn:
        kind, text, start = self._token()
        if kind == END:
            line = self._positions.locate(entry.start)[0]
            self._stop(entry.start, f"{entry.label}, opened on line {line}, is never closed")
        if text in ("}", ">", "]"):
            expected = f"the {closer!r} of {entry.label}" if closer else "a field name"
            self._stop(start, f"found {text!r}, expected {expected}; check the braces above")
        self._stop(start, f"expected a field name, found {shown_token(kind, text)}")

    def _read_field(self, entry: _Open) -> None:
        _, name, start = self._token()
        self._at += 1
        if len(self._open) == 1:
            self.top_level_names.add(name)
        target = entry.layout.fields.get(name)
        if target is None:
            self._skip_unknown(name, start)
            return
        target = self._or_list(entry, target)
        if not target.repeated and name in entry.seen:
            line = self._positions.locate(entry.seen[name])[0]
            self._report(start, f"{name} is given twice in {entry.label}, first on line {line}")
        entry.seen.setdefault(name, start)
        has_colon = self._accept(":")
        if target.kind != "message" and not has_colon:
            self._refuse_missing_colon(target, start)
        elif target.repeated and self._accept("["):
            self._read_list(target, entry.message, start)
        elif self._texts[self._at] == "[":
            self._report(start, f"{target.name} takes one value, found a list")
            self._skip_value()
        else:
            self._read_one(target, entry.message, start)
        self._accept_separator()

    def _or_list(self, entry: _Open, target: Field) -> Field:
        """The field, or its companion for several values where a fork takes a list and one comes.

        ``kernel_size: [3, 3, 2]`` of a three-dimensional pooling goes to ``kernel_size_list``, so
        that ``kernel_size`` stays the single number that it is in BVLC's schema.
        """
        companion = entry.layout.fields.get(target.name + _SEVERAL)
        if companion is None or target.repeated:
            return target
        values = getattr(entry.message, companion.name)
        if entry.message.HasField(target.name):
            values.extend([getattr(entry.message, target.name)])
            entry.message.ClearField(target.name)
        elif not values and not self._several_ahead():
            return target
        return companion

    def _several_ahead(self) -> bool:
        """Whether a list of two values or more follows."""
        at = self._at + (self._texts[self._at] == ":")
        return self._texts[at] == "[" and self._texts[at + 2 : at + 3] == [","]

    def _refuse_missing_colon(self, target: Field, start: int) -> None:
        kind, text, _ = self._token()
        if text in ("{", "<"):
            self._report(start, f"{target.name} is no message; write {target.name}: and a value")
        elif kind in (NUMBER, STRING, NAME, UNCLOSED) or text == "-":
            self._report(start, f"the ':' between {target.name} and its value is missing")
        else:
            self._report(start, f"{target.name} needs ':' and a value")
        self._skip_value()

    def _read_list(self, target: Field, message: Message, start: int) -> None:
        if self._accept("]"):
            return
        while True:
            self._read_one(target, message, start)
            if self._accept("]"):
                return
            if not self._accept(","):
                kind, text, place = self._token()
                what = shown_token(kind, text)
                self._stop(place, f"expected ',' or ']' in the list of {target.name}, found {what}")

    def _read_one(self, target: Field, message: Message, start: int) -> None:
        if len(self._open) == 1:
            self._top_level.setdefault(target.name, []).append(start)
        if target.kind == "message":
            self._read_submessage(target, message, start)
            return
        begin = self._at
        try:
            value = self._read_scalar(target)
        except WrongValueError as problem:
            self._report(self._starts[begin], str(problem))
            self._at = begin
            self._skip_value()
            return
        if target.repeated:
            getattr(message, target.name).append(value)
        else:
            setattr(message, target.name, value)

    def _read_submessage(self, target: Field, message: Message, start: int) -> None:
        kind, text, place = self._token()
        if text not in ("{", "<") or kind != SIGN:
            found = shown_token(kind, text)
            self._report(place, f"{target.name} is a message: expected '{{', found {found}")
            self._skip_value()
            return
        self._at += 1
        child = getattr(message, target.name)
        if target.repeated:
            child = child.add()
        else:
            child.SetInParent()
        fields = layout(target.descriptor)
        self._read_message(_Open(target.name, fields, child, start), _CLOSERS[text])

    def _read_scalar(self, target: Field) -> int | float | bool | str | bytes:
        if target.kind in ("string", "bytes"):
            first = self._at
            while self._kinds[self._at] == STRING:
                self._at += 1
            if self._at == first or self._kinds[self._at] == UNCLOSED:
                kind, text, _ = self._token()
                raise no_string(target, kind, text)
            return read_string(target, self._texts[first : self._at])
        negative = self._accept("-")
        kind, text, _ = self._token()
        value = read_value(target, kind, text, negative)
        self._at += 1
        return value

    # ---- going on after a mistake

    def _skip_unknown(self, name: str, start: int) -> None:
        entry = self._open[-1]
        has_colon = self._accept(":")
        kind, text, _ = self._token()
        if not has_colon and text not in ("{", "<"):
            found = shown_token(kind, text)
            self._stop(
                start, f"expected ':' or '{{' after {name}, found {found}; is this prototxt?"
            )
        enclosing = [(around.label, around.layout) for around in self._open]
        hint = unknown_field_hint(name, enclosing)
        inside = "" if entry.layout.is_layer else f" in {entry.label}"
        sentence = f"unknown field {name!r}{inside}{hint}"
        if self._lenient:
            self._skipped.append(_Mistake(start, f"skipped: {sentence}", self._layer()))
        else:
            self._report(start, sentence)
        self._skip_value()
        self._accept_separator()

    def _skip_value(self) -> None:
        """Pass over one value of any kind; stays put where there is none."""
        self._accept("-")
        kind, text, _ = self._token()
        if kind in (STRING, UNCLOSED):
            while self._kinds[self._at] in (STRING, UNCLOSED):
                self._at += 1
        elif kind in (NAME, NUMBER):
            self._at += 1
        elif text in _CLOSERS:
            self._skip_braces()

    def _skip_braces(self) -> None:
        expected: list[str] = []
        begin = self._starts[self._at]
        while True:
            kind, text, start = self._token()
            if kind == END:
                self._stop(begin, f"{self._open[-1].label}: a brace opened here is never closed")
            self._at += 1
            if text in _CLOSERS:
                expected.append(_CLOSERS[text])
                if len(expected) + len(self._open) > _DEEPEST:
                    self._stop(start, f"messages are nested more than {_DEEPEST} deep")
            elif text in ("}", ">", "]"):
                if text != expected.pop():
                    self._stop(start, f"found {text!r}, which closes nothing; check the braces")
                if not expected:
                    return

    # ---- tokens and reports

    def _token(self) -> tuple[int, str, int]:
        return self._kinds[self._at], self._texts[self._at], self._starts[self._at]

    def _accept(self, sign: str) -> bool:
        if self._texts[self._at] == sign:
            self._at += 1
            return True
        return False

    def _accept_separator(self) -> None:
        if self._texts[self._at] in (";", ","):
            self._at += 1

    def _layer(self) -> Message | None:
        layers = (entry.message for entry in reversed(self._open) if entry.layout.is_layer)
        return next(layers, None)

    def _report(self, start: int, sentence: str) -> None:
        self.mistakes.append(_Mistake(start, sentence, self._layer()))

    def _stop(self, start: int, sentence: str) -> NoReturn:
        self._report(start, sentence)
        raise _UnreadableError


def _layer_name(layer: Message) -> str:
    name = layer.name
    if not name and layer.DESCRIPTOR.name == "V1LayerParameter":
        name = layer.layer.name
    return str(name)
