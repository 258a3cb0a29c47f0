"""Reads prototxt text, as strictly as BVLC Caffe, and reports all of its mistakes together.

The grammar is the text format of protobuf 3.21: fields ``name: value`` or ``name { ... }``, lists
in brackets, ``;`` or ``,`` after a field, ``< >`` for ``{ }``, ``#`` comments, adjacent strings
joined. Unknown fields, unknown enum names, a singular field given twice, values of a wrong type or
out of range and missing required fields are mistakes.
"""

from __future__ import annotations

import contextlib
import math
from typing import NoReturn

from caffecompat.errors import FormatError, TextError
from caffecompat.input_files import CLAIM_ALLOWANCE, limit_remedy
from caffecompat.proto.descriptors import Field, Layout, layout
from caffecompat.proto.exclusive_fields import only_one
from caffecompat.proto.schema import Message, new
from caffecompat.proto.text.mistakes import UnreadableError
from caffecompat.proto.text.ordinary import DEEPEST, read_ordinary, read_ordinary_list
from caffecompat.proto.text.parse_state import CAREFUL_FIELD, OpenMessage, ParseState
from caffecompat.proto.text.positions import LayerLines, Lines, Source
from caffecompat.proto.text.printer import format_text
from caffecompat.proto.text.reporter import Reporter
from caffecompat.proto.text.scalars import (
    WrongValueError,
    read_scalar,
)
from caffecompat.proto.text.scalars import shown as shown_token
from caffecompat.proto.text.skipping import skip_value
from caffecompat.proto.text.tokens import (
    CLOSERS,
    CURLY,
    END,
    NAME,
    NUMBER,
    SIGN,
    STRING,
    UNCLOSED,
    Tokens,
    is_list_of_several,
)
from caffecompat.proto.wrong_files import mistaken_kind, wrong_text

__all__ = ["format_text", "parse_text"]

# Bytes of memory that messages may take for each byte of text: an empty layer of 7 bytes takes
# 0.7 kB. Nets of real layers take 4 to 6.
_ROOM_FACTOR = 6
# The most that is read one by one, in steps (parse_state.FIELD): some seconds of work. Nets of
# thousands of layers take some thousands.
_MOST_WORK = 1_000_000
# No message of the schema takes more bytes without what is in it.
_LARGEST_MESSAGE = 1000
# Suffix of the field of the united schema that takes several values for a singular field.
_SEVERAL = "_list"


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
        max_bytes: the memory that the messages may take; by default six bytes for each character
            of the text plus 64 MiB. Only by default there is a limit, too, of the fields that are
            read one by one, because they are unlike all others.

    Returns:
        The message, and where its layers stand in the text.

    Raises:
        TextError: one sentence for each mistake, with file, line and column, up to a hundred.
        FormatError: the messages would take more than ``max_bytes``, or too many fields are read
            one by one.
        UnknownName: the schema has no message of that name.
    """
    result = new(message)
    wrong = wrong_text(text)
    if wrong is not None:
        raise TextError([f"{path}: {wrong}, expected prototxt text ({message})"])
    room = _ROOM_FACTOR * len(text) + CLAIM_ALLOWANCE
    most_work = _MOST_WORK if max_bytes is None else math.inf
    parser = _Parser(text, path, lenient, max(room, max_bytes or 0), most_work)
    parser.read(result, layout(result.DESCRIPTOR))
    parser.refuse_zero_bytes()
    if parser.reporter.mistakes.found:
        mistaken = mistaken_kind(message, parser.top_level_names)
        if mistaken is not None:
            raise TextError([f"{path}: {mistaken}"])
        raise TextError(parser.reporter.sentences(path))
    return result, parser.source()


class _Parser:
    def __init__(self, text: str, path: str, lenient: bool, room: int, most_work: float) -> None:
        self._path = path
        self._text = text
        self._room = room
        self._tokens = Tokens(text)
        self._state = ParseState(text, self._tokens.start, room, lenient, most_work)
        self._open = self._state.open
        self.reporter = Reporter(self._state)
        self._unknown_top_level: set[str] = set()

    @property
    def top_level_names(self) -> set[str]:
        """The names of the fields at the top level, known or not."""
        return self._unknown_top_level | set(self._state.top_level)

    def read(self, message: Message, fields: Layout) -> None:
        """Read the whole text into ``message``; mistakes are collected, not raised."""
        with contextlib.suppress(UnreadableError):
            try:
                self._read_message(OpenMessage(fields.name, fields, message, 0, ""))
            except UnreadableError:
                mistakes = self.reporter.mistakes
                if mistakes.cut_short and mistakes.mostly_misplaced:
                    self.reporter.report_missing_closer()
                raise

    def refuse_zero_bytes(self) -> None:
        """Reports a zero byte inside a string or comment; elsewhere it is a mistake already."""
        if not self.reporter.mistakes.found and "\0" in self._text:
            self.reporter.report(
                self._text.index("\0"),
                "found a zero byte, which text never has; the file is damaged, get it anew",
            )

    def source(self) -> Source:
        """The places of the layers, after a read without mistakes."""
        state, positions = self._state, self.reporter.positions
        return Source(
            self._path,
            LayerLines(state.names, Lines(positions, state.places)),
            tuple(self.reporter.warnings(self._path)),
            fields={name: Lines(positions, starts) for name, starts in state.top_level.items()},
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
        self._state.at = self._tokens.start
        read_ordinary(self._state, base)
        if self._state.at != self._tokens.start:
            self._tokens.go_to(self._state.at)
        self._check_work()

    def _check_work(self) -> None:
        if self._state.work > self._state.most_work:
            raise FormatError(
                f"{self._path}:{self.reporter.positions.line(self._tokens.start)}: the text up to "
                "here has too many fields that are unlike all others, which takes long to read; "
                f"{limit_remedy(self._room)}"
            )

    def _push(self, entry: OpenMessage) -> None:
        self._open.append(entry)
        if len(self._open) > DEEPEST:
            self.reporter.stop(entry.start, f"messages are nested more than {DEEPEST} deep")
        self._state.room -= entry.layout.size
        if self._state.room < 0:
            raise FormatError(
                f"{self._path}: its messages would take {self._room:,} bytes of memory or more, "
                f"which is the limit for {len(self._text):,} characters; "
                f"{limit_remedy(max(self._room, _most_memory(self._text)))}"
            )

    def _close(self) -> None:
        entry = self._open[-1]
        if self._tokens.word != entry.closer:
            self._refuse_structure(entry)
        missing = [name for name in entry.layout.required if name not in entry.seen]
        if missing:
            self.reporter.report(entry.start, f"{entry.label} needs {' and '.join(missing)}")
        self._state.close()
        if entry.closer:
            self._tokens.advance()

    def _refuse_structure(self, entry: OpenMessage) -> NoReturn:
        token = self._tokens
        if token.kind == END:
            self.reporter.report_missing_closer()
            line = self.reporter.positions.line(entry.start)
            self.reporter.stop(
                entry.start, f"{entry.label}, opened on line {line}, is never closed"
            )
        if token.word in ("}", ">", "]"):
            if not entry.closer:
                self.reporter.report_surplus_closer()
            expected = f"the {entry.closer!r} of {entry.label}" if entry.closer else "a field name"
            self.reporter.stop(
                token.start, f"found {token.word!r}, expected {expected}; check the braces above"
            )
        self.reporter.stop(
            token.start, f"expected a field name, found {shown_token(token.kind, token.word)}"
        )

    def _read_field(self, entry: OpenMessage) -> None:
        name, start = self._tokens.word, self._tokens.start
        self._state.work += CAREFUL_FIELD
        self._tokens.advance()
        target = entry.layout.fields.get(name)
        if target is None:
            if len(self._open) == 1:
                self._unknown_top_level.add(name)
            self._skip_unknown(name, start)
            return
        target = self._or_list(entry, target)
        if not target.repeated and name in entry.seen:
            line = self.reporter.positions.line(entry.seen[name])
            self.reporter.report(
                start, f"{name} is given twice in {entry.label}, first on line {line}"
            )
        elif target.group in entry.seen and name not in entry.seen:
            self._refuse_second(entry, target, start)
        entry.note(target, start)
        has_colon = self._tokens.accept(":")
        if target.kind != "message" and not has_colon:
            self._refuse_missing_colon(target, start)
        elif target.repeated and self._tokens.accept("["):
            self._read_list(target, entry.message, start)
        elif self._tokens.word == "[":
            self.reporter.report(start, f"{target.name} takes one value, found a list")
            self._skip_value()
        elif target.kind == "message":
            inner = self._enter(target, entry.message, start)
            if inner is not None:
                self._push(inner)
                return
        else:
            self._read_one(target, entry.message, start)
        self._accept_separator()

    def _refuse_second(self, entry: OpenMessage, target: Field, start: int) -> None:
        """Reports a field of a oneof whose place another field has."""
        fields = entry.layout.fields
        first = next(name for name in entry.seen if name in fields and _same(fields[name], target))
        line = self.reporter.positions.line(entry.seen[first])
        self.reporter.report(start, only_one(target.name, f"{first} (line {line})"))

    def _or_list(self, entry: OpenMessage, target: Field) -> Field:
        """The field, or its ``_list`` companion where a fork takes a list and one follows.

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
        elif not values and not is_list_of_several(self._tokens):
            return target
        return companion

    def _refuse_missing_colon(self, target: Field, start: int) -> None:
        kind, word = self._tokens.kind, self._tokens.word
        if word in ("{", "<"):
            sentence = f"{target.name} is no message; write {target.name}: and a value"
        elif kind in (NUMBER, STRING, NAME, UNCLOSED, CURLY) or word == "-":
            sentence = f"the ':' between {target.name} and its value is missing"
        else:
            sentence = f"{target.name} needs ':' and a value"
        self.reporter.report(start, sentence)
        self._skip_value()

    def _read_list(self, target: Field, message: Message, start: int) -> None:
        token = self._tokens
        if token.accept("]"):
            return
        while True:
            token.go_to(read_ordinary_list(self._state, target, message, token.start, start))
            self._read_one(target, message, start)
            self._state.work += CAREFUL_FIELD
            self._check_work()
            if token.accept("]"):
                return
            if not token.accept(","):
                what = shown_token(token.kind, token.word)
                self.reporter.stop(
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
            self._state.places_of(target.name).append(start)
        begin = self._tokens.start
        try:
            value = read_scalar(self._tokens, target)
        except WrongValueError as problem:
            self.reporter.report(begin, str(problem))
            self._tokens.go_to(begin)
            self._skip_value()
            return
        if target.repeated:
            getattr(message, target.name).append(value)
        else:
            setattr(message, target.name, value)

    def _enter(self, target: Field, message: Message, start: int) -> OpenMessage | None:
        """Adds the message of a field and skips its opening brace; None if there is no brace."""
        token = self._tokens
        if len(self._open) == 1:
            self._state.places_of(target.name).append(start)
        opens = token.word in ("{", "<") and token.kind == SIGN
        if not opens:
            found = shown_token(token.kind, token.word)
            sentence = f"{target.name} is a message: expected '{{', found {found}"
            self.reporter.report(token.start, sentence)
            if token.kind != NAME or token.word not in target.inside.fields:
                self._skip_value()
                return None
        closer = CLOSERS.get(token.word, "}")
        if opens:
            token.advance()
        child = getattr(message, target.name)
        if target.repeated:
            child = child.add()
        else:
            child.SetInParent()
        return OpenMessage(target.name, target.inside, child, start, closer)

    # ---- going on after a mistake

    def _skip_unknown(self, name: str, start: int) -> None:
        token = self._tokens
        has_colon = token.accept(":")
        if not has_colon and token.word not in ("{", "<"):
            found = shown_token(token.kind, token.word)
            self.reporter.stop(
                start, f"expected ':' or '{{' after {name}, found {found}; is this prototxt?"
            )
        if self._state.skips_silently:
            self._state.unlisted += 1
        else:
            self.reporter.report_unknown_field(name, start)
        self._skip_value()
        self._accept_separator()

    def _skip_value(self) -> None:
        self._state.work += skip_value(self._tokens, self._open, self.reporter)

    def _accept_separator(self) -> None:
        if self._tokens.word in (";", ","):
            self._tokens.advance()


def _most_memory(text: str) -> int:
    """The most that the messages of a text can take."""
    return _LARGEST_MESSAGE * (text.count("{") + text.count("<"))


def _same(field: Field, other: Field) -> bool:
    """Whether a message sets one of the two fields only."""
    return field.group == other.group
