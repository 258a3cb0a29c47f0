"""The fast reader, for ordinary fields only: ``name: value``, ``name {`` and ``}``.

It stops at everything else (joined strings, an escape, a mistake), and the parser in
:mod:`caffecompat.proto.text.parser` continues there. Both keep their state in one
:class:`~caffecompat.proto.text.parse_state.ParseState`.
"""

from __future__ import annotations

import re
from typing import Any

from caffecompat.proto.descriptors import Field
from caffecompat.proto.schema import Message
from caffecompat.proto.text.parse_state import (
    FIELD,
    UNLIKE_MESSAGE,
    BlockStart,
    OpenMessage,
    ParseState,
)
from caffecompat.proto.text.repeats.block_runs import read_block_run, read_values
from caffecompat.proto.text.repeats.blocks import find_block
from caffecompat.proto.text.repeats.known_blocks import ParsedBlock
from caffecompat.proto.text.repeats.value_runs import (
    MOST_DIGITS,
    NEXT,
    SEPARATOR,
    is_unicode,
    read_list_run,
)
from caffecompat.proto.text.scalars import WrongValueError, read_word, unescaped
from caffecompat.proto.text.tokens import IN_DOUBLE, IN_SINGLE

DEEPEST = 100

# Names of fields are shorter. Without a limit, a word as long as the text would be tried at each of
# its lengths.
_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,99}"

_VALUE, _QUOTED, _SINGLE_QUOTED, _LISTED, _OPENED, _CLOSED, _PIECES = range(2, 9)
_QUOTES = {_VALUE: "", _QUOTED: '"', _SINGLE_QUOTED: "'"}
_WORD = r"-?[.A-Za-z0-9_][-+.A-Za-z0-9_]*(?=[\s;,}\#])"
_ORDINARY = re.compile(
    rf"""
    (?:
      ({_NAME})\s*
      (?: :\s* (?: ({_WORD}) | "({IN_DOUBLE})" | '({IN_SINGLE})'
                | \[([^\[\]{{}}\#\\]{{0,1000}})\] )
        | (?: :\s*)? (\{{)(?!\s*[;,]) )
      | (\}})
    )
    {NEXT}
    """,
    re.VERBOSE | re.ASCII,
)
# A string in several pieces, none of them long: all is tried that is no other field.
_PIECE = "|".join(
    rf"{quote}[^{quote}\\\n]{{0,1000}}(?:\\.[^{quote}\\\n]{{0,1000}}){{0,20}}{quote}"
    for quote in "\"'"
)
_PIECES_OF_STRING = re.compile(_PIECE)
_IN_PIECES = re.compile(
    rf"({_NAME})\s*:\s*((?:{_PIECE})(?:\s*(?:{_PIECE})){{1,20}}){NEXT}", re.ASCII
)
# Fields of one name, each with a word or number; or one with a string, or with a list or message in
# which each brace is what it seems.
_NO_BRACE = r"""[^{}<>\[\]"'\#]{0,1000}"""
_NO_FIELD = r"""[^{}<>\[\]"'\#:]{0,1000}"""
_FIELDS = re.compile(
    rf"""
    ({_NAME})\s*
    (?: :\s* (?: ({_WORD} (?: {SEPARATOR} \1\s*:\s* {_WORD} ){{0,999}})
               | "[^"\\\n]*" | '[^'\\\n]*' | \[ {_NO_FIELD} \] )
      | (?: :\s*)? \{{ {_NO_BRACE} (?: \{{ {_NO_BRACE} \}} {_NO_BRACE} ){{0,9}} \}} )
    {NEXT}
    """,
    re.VERBOSE | re.ASCII,
)
# Kinds of fields that take no word.
_OF_STRINGS = ("string", "bytes", "message")
_QUOTED_IN_LIST = re.compile(r"""\s*(?:"([^"\\\n]*)"|'([^'\\\n]*)')\s*(?:,(?!\s*$)|$)""", re.ASCII)
_BLANKS = " \t\r\n\v\f"


def read_ordinary(state: ParseState, base: int) -> None:
    """Reads up to the first field that is not ordinary.

    Args:
        state: is updated; ``state.at`` is the offset where this reader stopped, which it also does
            at ``state.most_work``.
        base: index in ``state.open`` of a message that is not closed here.
    """
    state.steps += 1
    text, at = state.text, state.at
    last: Field | None = None
    entry = state.open[-1]
    while state.work <= state.most_work:
        match = _ORDINARY.match(text, at) or _IN_PIECES.match(text, at)
        if match is None:
            break
        group = match.lastindex or 0
        kind = group if match.re is _ORDINARY else _PIECES
        if kind == _CLOSED:
            if len(state.open) - 1 <= base or not _close(state, match):
                break
            entry, last = state.open[-1], None
            at = match.end()
            continue
        name, value = match.group(1, group)
        target = entry.layout.fields.get(name)
        following: int | None = match.end()
        if target is None:
            following = _skip_unknown_fields(state, at)
        elif kind == _OPENED:
            following = _read_message(state, target, match)
            entry, last = state.open[-1], None
        elif target is last and (run := read_values(state, target, at)) > at:
            following = run
        else:
            count = _put(entry, target, kind, value, at)
            state.work += FIELD
            if count == 0:
                break
            last = target if target.repeated else None
            if len(state.open) == 1:
                state.places_of(name).extend([at] * count)
                if target.repeated and kind in _QUOTES:
                    following = _read_on(state, target, kind, match.end())
        if following is None:
            break
        at = following
    state.at = at


def _read_message(state: ParseState, target: Field, match: re.Match[str]) -> int | None:
    """Opens a message, or copies the whole of it if one like it was read before.

    Returns:
        The offset of what follows; None if the parser must read the message.
    """
    if target.kind != "message":
        return None
    entry, fields, start = state.open[-1], target.inside, match.start()
    last = state.known.last.get(entry.layout) if target.repeated else None
    if last is not None and state.known.tried != start:
        at = read_block_run(state, last, start)
        if at != start:
            return at
    block = find_block(state.text, match.end(_OPENED), target) if not fields.has_layers else None
    copy = state.known.copy(block) if block is not None else None
    room = fields.size if copy is None else copy.known.room
    if len(state.open) >= DEEPEST or state.room < room:
        return None
    child = getattr(entry.message, target.name)
    if target.repeated:
        child = child.add()
    elif target.name in entry.seen or target.group in entry.seen:
        return None
    else:
        child.SetInParent()
        entry.note(target, start)
    if len(state.open) == 1:
        state.places_of(target.name).append(start)
    state.room -= room
    if copy is not None and block is not None:
        state.work += FIELD * (1 + len(block.values))
        child.MergeFromString(copy.content.encode("latin-1"))
        state.unlisted += copy.known.unlisted
        if fields.is_layer:
            state.note_layer(child, start)
        if target.repeated:
            state.known.note_block(copy.known, block, entry.layout)
            return read_block_run(state, copy.known, copy.following)
        return copy.following
    state.work += UNLIKE_MESSAGE
    inner = OpenMessage(target.name, fields, child, start, "}")
    if block is not None:
        inner.begun = BlockStart(block, state.progress(), state.room, state.unlisted)
    state.open.append(inner)
    return match.end()


def _close(state: ParseState, match: re.Match[str]) -> bool:
    entry = state.open[-1]
    if entry.closer != "}" or entry.layout.required:
        return False
    begun = entry.begun
    if begun is not None and begun.progress == state.progress():
        block = begun.block
        if block.end == match.end(_CLOSED):
            room = begun.room - state.room
            unlisted = state.unlisted - begun.unlisted
            state.known.add(ParsedBlock(block, entry.message, room, unlisted))
    state.close()
    return True


def _skip_unknown_fields(state: ParseState, at: int) -> int | None:
    """The offset after unknown fields; None if the parser must read the first of them."""
    if not state.skips_silently:
        return None
    text, known, count = state.text, state.open[-1].layout.fields, 0
    while (match := _FIELDS.match(text, at)) is not None and match[1] not in known:
        at = match.end()
        count += 1 + (match[2] or "").count(":")
    state.unlisted += count
    return at if count else None


def read_ordinary_list(
    state: ParseState, target: Field, message: Message, at: int, start: int
) -> int:
    """Reads the ordinary values at the start of a list in brackets.

    Args:
        state: its position stays as it is.
        target: the field.
        message: takes the values.
        at: offset of a value.
        start: offset of the field's name.

    Returns:
        The offset of another value of the list.
    """
    if target.kind == "message":
        return at
    values = getattr(message, target.name)
    before = len(values)
    end = read_list_run(state.text, at, target, message)
    if len(state.open) == 1:
        state.places_of(target.name).extend(state.offsets(start) * (len(values) - before))
    return end


def _read_on(state: ParseState, target: Field, kind: int, at: int) -> int:
    """Reads what follows a field of the top level in the order in which it came before."""
    known = state.known.note_field(target, _QUOTES[kind], state.open[-1].layout)
    return read_block_run(state, known, at) if known is not None else at


def _put(entry: OpenMessage, target: Field, kind: int, text: str, start: int) -> int:
    """Stores a value, or those of a list, in the message.

    Returns:
        How many there were; 0 if the parser must read them.
    """
    if kind == _LISTED:
        values = _list_values(target, text) if target.repeated else None
        if values is None:
            return 0
        getattr(entry.message, target.name).extend(values)
        return len(values)
    value: int | float | str | bytes | None
    if kind == _VALUE:
        value = _simple_value(target, text)
    elif kind == _PIECES:
        value = _joined_value(target, text)
    else:
        value = _text_value(target, text)
    if value is None:
        return 0
    if target.repeated:
        getattr(entry.message, target.name).append(value)
    elif target.name in entry.seen:
        return 0
    else:
        entry.seen[target.name] = start
        setattr(entry.message, target.name, value)
    return 1


def _joined_value(target: Field, text: str) -> str | None:
    """The value of a string in pieces; None where one of these is not an ordinary one."""
    if target.kind != "string":
        return None
    pieces = [_text_value(target, piece[1:-1]) for piece in _PIECES_OF_STRING.findall(text)]
    return "".join(map(str, pieces)) if None not in pieces else None


def _text_value(target: Field, text: str) -> str | bytes | None:
    """The value of a string with few escapes; None where it is not an ordinary one."""
    if target.kind not in ("string", "bytes"):
        return None
    if target.kind == "string" and text.isascii() and "\\" not in text:
        return text
    content = unescaped(text, target.raw)
    return content.decode() if content is not None and target.kind == "string" else content


def _list_values(target: Field, text: str) -> list[Any] | None:
    """The values of a list without its brackets; None where it is not an ordinary one."""
    if target.kind == "string":
        quoted = list(_QUOTED_IN_LIST.finditer(text))
        ordinary = sum(len(match[0]) for match in quoted) == len(text) and is_unicode(text)
        return [match[1] or match[2] or "" for match in quoted] if ordinary else None
    if not text.isascii():  # other digits than 0 to 9 are digits to Python
        return None
    values = [_simple_value(target, word.strip(_BLANKS)) for word in text.split(",")]
    return None if None in values else values


def _simple_value(target: Field, text: str) -> int | float | bool | None:
    """The value of a word without quotes; None where it is not an ordinary one."""
    kind = target.kind
    if kind == "whole" and text.isdigit() and len(text) <= MOST_DIGITS and text[0] != "0":
        return int(text)
    if kind == "enum" and text in target.numbers:
        return target.numbers[text]
    if kind in _OF_STRINGS:
        return None
    try:
        return read_word(target, text)
    except WrongValueError:
        return None
