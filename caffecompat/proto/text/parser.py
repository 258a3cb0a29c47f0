"""Reads prototxt text, as strictly as BVLC Caffe, and reports all of its mistakes together.

The grammar is the text format of protobuf 3.21: fields ``name: value`` or ``name { ... }``, lists
in brackets, ``;`` or ``,`` after a field, ``< >`` for ``{ }``, ``#`` comments, adjacent strings
joined. Unknown fields, unknown enum names, a singular field given twice, values of a wrong type or
out of range and missing required fields are mistakes.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterable
from typing import NoReturn

from caffecompat.errors import FormatError, TextError
from caffecompat.input_files import CLAIM_ALLOWANCE, REMEDY
from caffecompat.proto.descriptors import Field, Layout, layout
from caffecompat.proto.schema import Message, new
from caffecompat.proto.text.braces import missing_closer, surplus_closer
from caffecompat.proto.text.hints import unknown_field_hint
from caffecompat.proto.text.mistakes import Mistake, Mistakes, UnreadableError, told
from caffecompat.proto.text.ordinary import DEEPEST, read_ordinary, read_ordinary_list
from caffecompat.proto.text.positions import Positions, Source
from caffecompat.proto.text.printer import format_text
from caffecompat.proto.text.reading import OpenMessage, Reading
from caffecompat.proto.text.scalars import (
    WrongValueError,
    curly_quotes,
    no_string,
    read_string,
    read_value,
)
from caffecompat.proto.text.scalars import shown as shown_token
from caffecompat.proto.text.tokens import (
    CURLY,
    END,
    NAME,
    NUMBER,
    SIGN,
    STRING,
    UNCLOSED,
    Tokens,
    end_of_string,
    loose_word,
    next_brace,
)
from caffecompat.proto.wrong_files import mistaken_kind, wrong_text

__all__ = ["format_text", "parse_text"]

# Bytes of memory that messages may take for each byte of text: an empty layer of 7 bytes takes
# 1.5 kB. Nets of real layers take 7 to 10, so those of more than about 100,000 layers ask for more.
_ROOM_FACTOR = 6
# Ending of the field of the united schema that takes several values in the place of a single one.
_SEVERAL = "_list"
_CLOSERS = {"{": "}", "<": ">", "[": "]"}


def parse_text(
    text: str,
    message: str,
    path: str = "<text>",
    lenient: bool = False,
    max_bytes: int | None = None,
) -> tuple[Message, Source]:
    """Read prototxt text into a message.

    Args:
        text: the prototxt; bytes of a file that are not UTF-8 may come as lone surrogates
            (``errors="surrogateescape"``): they are refused in strings only, not in comments.
        message: name of the message, e.g. ``"NetParameter"``.
        path: name of the file, for messages.
        lenient: skip unknown fields; the first hundred are listed in ``Source.warnings``.
        max_bytes: the memory that the messages may take; None for six bytes for each character
            of the text, and 64 MiB.

    Returns:
        The message, and where its layers stand in the text.

    Raises:
        TextError: one sentence for each mistake, with file, line and column, up to a hundred.
        FormatError: the messages would take more than ``max_bytes``.
        UnknownName: the schema has no message of that name.
    """
    result = new(message)
    wrong = wrong_text(text)
    if wrong is not None:
        raise TextError([f"{path}: {wrong}, expected prototxt text ({message})"])
    room = _ROOM_FACTOR * len(text) + CLAIM_ALLOWANCE
    parser = _Parser(text, path, lenient, max(room, max_bytes or 0))
    parser.read(result, layout(result.DESCRIPTOR))
    if parser.mistakes.found:
        mistaken = mistaken_kind(message, parser.top_level_names)
        if mistaken is not None:
            raise TextError([f"{path}: {mistaken}"])
        raise TextError(parser.mistakes.sentences(path, parser.positions))
    return result, parser.source()


class _Parser:
    def __init__(self, text: str, path: str, lenient: bool, room: int) -> None:
        self.positions = Positions(text)
        self.mistakes = Mistakes()
        self._path = path
        self._text = text
        self._room = room
        self._tokens = Tokens(text)
        self._reading = Reading(text, self._tokens.start, room, lenient)
        self._open = self._reading.open
        self._skipped: list[Mistake] = []
        self._unknown_top_level: set[str] = set()

    @property
    def top_level_names(self) -> set[str]:
        """The names of the fields at the top level, known or not."""
        return self._unknown_top_level | set(self._reading.top_level)

    def read(self, message: Message, fields: Layout) -> None:
        """Read the whole text into ``message``; mistakes are collected, not raised."""
        with contextlib.suppress(UnreadableError):
            try:
                self._read_message(OpenMessage(fields.name, fields, message, 0, ""))
            except UnreadableError:
                if self.mistakes.cut_short and self.mistakes.mostly_misplaced:
                    self._name_missing_closer()
                raise

    def source(self) -> Source:
        """Where the layers stand; to be asked after a read without mistakes."""
        reading = self._reading
        lines = _lines_by_name(reading.names, self.positions.lines(reading.places))
        warnings = told(self._skipped, self._path, self.positions)
        if reading.unlisted:
            warnings.append(f"{self._path}: skipped: {reading.unlisted:,} more unknown fields")
        return Source(
            self._path,
            lines,
            tuple(warnings),
            fields={
                name: array("L", self.positions.lines(starts))
                for name, starts in reading.top_level.items()
            },
        )

    # ---- structure

    def _read_message(self, entry: OpenMessage) -> None:
        """Reads a message and all that is inside it, up to and with its closing brace."""
        base = len(self._open)
        self._push(entry)
        while len(self._open) > base:
            self._read_ordinary(base)
            if self._tokens.kind == NAME:
                self._read_field(self._open[-1])
            else:
                self._close()
                if len(self._open) > base:
                    self._accept_separator()

    def _read_ordinary(self, base: int) -> None:
        self._reading.at = self._tokens.start
        read_ordinary(self._reading, base)
        if self._reading.at != self._tokens.start:
            self._tokens.go_to(self._reading.at)

    def _push(self, entry: OpenMessage) -> None:
        self._open.append(entry)
        if len(self._open) > DEEPEST:
            self._stop(entry.start, f"messages are nested more than {DEEPEST} deep")
        self._reading.room -= entry.layout.size
        if self._reading.room < 0:
            raise FormatError(
                f"{self._path}: its messages would take {self._room:,} bytes of memory or more, "
                f"which is the limit for {len(self._text):,} characters; {REMEDY}"
            )

    def _close(self) -> None:
        entry = self._open[-1]
        if self._tokens.word != entry.closer:
            self._refuse_structure(entry)
        missing = [name for name in entry.layout.required if name not in entry.seen]
        if missing:
            self._report(entry.start, f"{entry.label} needs {' and '.join(missing)}")
        self._reading.close()
        if entry.closer:
            self._tokens.advance()

    def _refuse_structure(self, entry: OpenMessage) -> NoReturn:
        token = self._tokens
        if token.kind == END:
            self._name_missing_closer()
            line = self.positions.line(entry.start)
            self._stop(entry.start, f"{entry.label}, opened on line {line}, is never closed")
        if token.word in ("}", ">", "]"):
            if not entry.closer:
                self._name_surplus_closer()
            expected = f"the {entry.closer!r} of {entry.label}" if entry.closer else "a field name"
            self._stop(
                token.start, f"found {token.word!r}, expected {expected}; check the braces above"
            )
        self._stop(
            token.start, f"expected a field name, found {shown_token(token.kind, token.word)}"
        )

    def _name_missing_closer(self) -> None:
        found = missing_closer(self._text, self._suspect(), self._open[0].layout)
        if found is not None:
            layer = self._layer_at(found.start)
            self.mistakes.replace_from(Mistake(found.start, found.sentence, layer))
            raise UnreadableError

    def _name_surplus_closer(self) -> None:
        found = surplus_closer(self._text, self._suspect(), self._open[0].layout)
        if found is not None:
            self.mistakes.replace_from(Mistake(found.start, found.sentence))
            raise UnreadableError

    def _suspect(self) -> int:
        """Where the field of the top level begins in which the first mistake may be."""
        starts = [place for places in self._reading.top_level.values() for place in places]
        limit = min((mistake.start for mistake in self.mistakes.found), default=len(self._text))
        if len(self._open) > 1:
            limit = min(limit, self._open[1].start)
        return max((start for start in starts if start <= limit), default=0)

    def _layer_at(self, start: int) -> Message | None:
        layers = (entry for entry in self._open if entry.layout.is_layer and entry.start < start)
        return next((entry.message for entry in layers), None)

    def _read_field(self, entry: OpenMessage) -> None:
        name, start = self._tokens.word, self._tokens.start
        self._tokens.advance()
        target = entry.layout.fields.get(name)
        if target is None:
            if len(self._open) == 1:
                self._unknown_top_level.add(name)
            self._skip_unknown(name, start)
            return
        target = self._or_list(entry, target)
        if not target.repeated and name in entry.seen:
            line = self.positions.line(entry.seen[name])
            self._report(start, f"{name} is given twice in {entry.label}, first on line {line}")
        entry.seen.setdefault(name, start)
        has_colon = self._tokens.accept(":")
        if target.kind != "message" and not has_colon:
            self._refuse_missing_colon(target, start)
        elif target.repeated and self._tokens.accept("["):
            self._read_list(target, entry.message, start)
        elif self._tokens.word == "[":
            self._report(start, f"{target.name} takes one value, found a list")
            self._skip_value()
        elif target.kind == "message":
            inner = self._enter(target, entry.message, start)
            if inner is not None:
                self._push(inner)
                return
        else:
            self._read_one(target, entry.message, start)
        self._accept_separator()

    def _or_list(self, entry: OpenMessage, target: Field) -> Field:
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
        ahead = Tokens(self._text, self._tokens.start)
        ahead.accept(":")
        if not ahead.accept("["):
            return False
        ahead.advance()
        return ahead.word == ","

    def _refuse_missing_colon(self, target: Field, start: int) -> None:
        kind, word = self._tokens.kind, self._tokens.word
        if word in ("{", "<"):
            self._report(start, f"{target.name} is no message; write {target.name}: and a value")
        elif kind in (NUMBER, STRING, NAME, UNCLOSED, CURLY) or word == "-":
            self._report(start, f"the ':' between {target.name} and its value is missing")
        else:
            self._report(start, f"{target.name} needs ':' and a value")
        self._skip_value()

    def _read_list(self, target: Field, message: Message, start: int) -> None:
        token = self._tokens
        if token.accept("]"):
            return
        while True:
            token.go_to(read_ordinary_list(self._reading, target, message, token.start, start))
            self._read_one(target, message, start)
            if token.accept("]"):
                return
            if not token.accept(","):
                what = shown_token(token.kind, token.word)
                self._stop(
                    token.start, f"expected ',' or ']' in the list of {target.name}, found {what}"
                )

    def _read_one(self, target: Field, message: Message, start: int) -> None:
        """Reads one value, or one whole message of a list."""
        if target.kind == "message":
            entry = self._enter(target, message, start)
            if entry is not None:
                self._read_message(entry)
            return
        if len(self._open) == 1:
            self._reading.places_of(target.name).append(start)
        begin = self._tokens.start
        try:
            value = self._read_scalar(target)
        except WrongValueError as problem:
            self._report(begin, str(problem))
            self._tokens.go_to(begin)
            self._skip_value()
            return
        if target.repeated:
            getattr(message, target.name).append(value)
        else:
            setattr(message, target.name, value)

    def _enter(self, target: Field, message: Message, start: int) -> OpenMessage | None:
        """Makes the message of a field, up to behind its opening brace; None where it has none."""
        token = self._tokens
        if len(self._open) == 1:
            self._reading.places_of(target.name).append(start)
        opens = token.word in ("{", "<") and token.kind == SIGN
        if not opens:
            found = shown_token(token.kind, token.word)
            sentence = f"{target.name} is a message: expected '{{', found {found}"
            self._report(token.start, sentence)
            if token.kind != NAME or token.word not in target.inside.fields:
                self._skip_value()
                return None
        closer = _CLOSERS.get(token.word, "}")
        if opens:
            token.advance()
        child = getattr(message, target.name)
        if target.repeated:
            child = child.add()
        else:
            child.SetInParent()
        return OpenMessage(target.name, target.inside, child, start, closer)

    def _read_scalar(self, target: Field) -> int | float | bool | str | bytes:
        token = self._tokens
        if token.kind == CURLY:
            raise curly_quotes(target, token.word)
        if target.kind in ("string", "bytes"):
            if token.kind != STRING:
                word = loose_word(token)[0] if token.kind in (NAME, NUMBER) else token.word
                raise no_string(target, token.kind, word)
            value, end = read_string(target, self._text, token.start)
            token.go_to(end)
            return value
        negative = token.accept("-")
        number = read_value(target, token.kind, token.word, negative)
        token.advance()
        return number

    # ---- going on after a mistake

    def _skip_unknown(self, name: str, start: int) -> None:
        token = self._tokens
        has_colon = token.accept(":")
        if not has_colon and token.word not in ("{", "<"):
            found = shown_token(token.kind, token.word)
            self._stop(
                start, f"expected ':' or '{{' after {name}, found {found}; is this prototxt?"
            )
        if not self._reading.passes_over_more():
            self._report_unknown(name, start)
        self._skip_value()
        self._accept_separator()

    def _report_unknown(self, name: str, start: int) -> None:
        entry = self._open[-1]
        enclosing = [(around.label, around.layout) for around in self._open]
        hint = unknown_field_hint(name, enclosing)
        inside = "" if entry.layout.is_layer else f" in {entry.label}"
        sentence = f"unknown field {name!r}{inside}{hint}"
        if self._reading.lenient:
            self._skipped.append(Mistake(start, f"skipped: {sentence}", self._layer()))
            self._reading.listed += 1
            return
        misplaced = any(name in around.layout.fields for around in self._open)
        self.mistakes.report(Mistake(start, sentence, self._layer(), misplaced))

    def _skip_value(self) -> None:
        """Pass over one value of any kind; stays put where there is none."""
        token = self._tokens
        token.accept("-")
        if token.kind in (STRING, UNCLOSED, CURLY):
            while token.kind in (STRING, UNCLOSED, CURLY):
                token.go_to(end_of_string(token))
        elif token.kind in (NAME, NUMBER):
            token.go_to(loose_word(token)[1])
        elif token.word in _CLOSERS:
            self._skip_braces()

    def _skip_braces(self) -> None:
        expected: list[str] = []
        token = self._tokens
        begin = token.start
        while True:
            if token.kind == END:
                self._stop(begin, f"{self._open[-1].label}: a brace opened here is never closed")
            if token.word in _CLOSERS:
                expected.append(_CLOSERS[token.word])
                if len(expected) + len(self._open) > DEEPEST:
                    self._stop(token.start, f"messages are nested more than {DEEPEST} deep")
            elif token.word in ("}", ">", "]") and token.word != expected.pop():
                self._stop(
                    token.start, f"found {token.word!r}, which closes nothing; check the braces"
                )
            token.go_to(next_brace(self._text, token.end) if expected else token.end)
            if not expected:
                return

    # ---- tokens and reports

    def _accept_separator(self) -> None:
        if self._tokens.word in (";", ","):
            self._tokens.advance()

    def _layer(self) -> Message | None:
        layers = (entry.message for entry in reversed(self._open) if entry.layout.is_layer)
        return next(layers, None)

    def _report(self, start: int, sentence: str) -> None:
        self.mistakes.report(Mistake(start, sentence, self._layer()))

    def _stop(self, start: int, sentence: str) -> NoReturn:
        self.mistakes.stop(Mistake(start, sentence, self._layer()))


def _lines_by_name(names: list[str], lines: Iterable[int]) -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    for name, line in zip(names, lines, strict=True):
        if name in result:
            result[name].append(line)
        else:
            result[name] = [line]
    return result
