"""Finds the brace that is missing or one too many, where the braces of a prototxt do not match.

A reader notices at the end of the file what went wrong hundreds of lines before. Two
things show the place: a field of the message around (or of the one just closed), and lines that are
indented less than they should be (or more).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from caffecompat.proto.descriptors import Layout
from caffecompat.proto.text.positions import Positions
from caffecompat.proto.text.tokens import NAME, Tokens

# Enough for the largest net that a person has written; the search gives up after so many.
_MOST_TOKENS = 300_000


@dataclass(frozen=True)
class BraceMistake:
    """The offset of what shows the mistake, and the sentence about it."""

    start: int
    sentence: str


@dataclass
class _Block:
    """A message in braces. ``fields`` is None where the schema does not know it."""

    label: str
    fields: Layout | None
    start: int
    indent: int | None
    closed_at: int = 0
    last_inside: _Block | None = None

    def knows(self, name: str) -> bool:
        return self.fields is not None and name in self.fields.fields


def missing_closer(text: str, start: int, outer: Layout) -> BraceMistake | None:
    """The place before which a closing brace is missing; None if nothing shows it.

    Args:
        text: the prototxt.
        start: where a message of the top level begins, at or before the mistake.
        outer: the layout of the top level.
    """
    walk = _Walk(text, start, outer)
    indented: bool | None = None
    for token in walk:
        inner = walk.open[-1]
        if len(walk.open) == 1:
            continue
        indent = _indent(text, token.start)
        if indented is None and indent is not None and inner.indent is not None:
            indented = indent > inner.indent or token.word == "}"
        outdented = bool(indented) and _is_left_of(indent, inner, token.word == "}")
        misplaced = token.kind == NAME and inner.fields is not None and not inner.knows(token.word)
        if outdented or (misplaced and any(block.knows(token.word) for block in walk.open)):
            line = Positions(text).line(inner.start)
            found = "this '}'" if token.word == "}" else f"this {token.word}"
            return BraceMistake(
                token.start,
                f"the '}}' that closes {inner.label}, opened on line {line}, is missing before "
                f"{found}",
            )
    return None


def surplus_closer(text: str, start: int, outer: Layout) -> BraceMistake | None:
    """The closing brace that is one too many; None if nothing shows which."""
    walk = _Walk(text, start, outer)
    for token in walk:
        inner = walk.open[-1]
        closed = inner.last_inside
        if closed is None:
            continue
        indent = _indent(text, token.start)
        if token.word == "}" and indent is not None and indent > (inner.indent or 0):
            return _surplus(text, closed, "the next one is indented as its own")
        misplaced = token.kind == NAME and inner.fields is not None and not inner.knows(token.word)
        if misplaced and closed.knows(token.word):
            return _surplus(text, closed, f"{token.word}, which follows, belongs inside it")
    return None


def _surplus(text: str, closed: _Block, evidence: str) -> BraceMistake:
    line = Positions(text).line(closed.start)
    return BraceMistake(
        closed.closed_at,
        f"this '}}' closes {closed.label}, opened on line {line}, but {evidence}; remove it, or "
        "give it its '{'",
    )


class _Walk:
    """Goes over the names of fields and the closing braces, and keeps which messages are open.

    It yields each of them before a closing brace closes its message. ``open[0]`` is the top level.
    """

    def __init__(self, text: str, start: int, outer: Layout) -> None:
        self._tokens = Tokens(text, start)
        self._text = text
        self.open = [_Block(outer.name, outer, start, None)]

    def __iter__(self) -> Iterator[Tokens]:
        name, place = "", 0
        is_name = True
        for count, token in enumerate(self._tokens):
            if count > _MOST_TOKENS:
                return
            word = token.word
            if token.kind == NAME and is_name:
                name, place, is_name = word, token.start, False
                yield token
            elif word in ("{", "<"):
                self._enter(name, place)
                is_name = True
            elif word in ("}", ">"):
                yield token
                self._leave(token.start)
                is_name = True
            elif word == ":":
                is_name = False
            else:
                is_name = True

    def _enter(self, name: str, place: int) -> None:
        inner = self.open[-1]
        target = inner.fields.fields.get(name) if inner.fields else None
        inside = target.inside if target is not None and target.kind == "message" else None
        self.open.append(_Block(name, inside, place, _indent(self._text, place)))

    def _leave(self, start: int) -> None:
        if len(self.open) > 1:
            block = self.open.pop()
            block.closed_at = start
            self.open[-1].last_inside = block


def _indent(text: str, offset: int) -> int | None:
    """The column, from 0, of what stands first on its line; None for what does not."""
    line = text.rfind("\n", 0, offset) + 1
    before = text[line:offset].expandtabs()
    return None if before.strip() else len(before)


def _is_left_of(indent: int | None, block: _Block, closes: bool) -> bool:
    """Whether a line is indented as if the message were closed already."""
    if indent is None or block.indent is None:
        return False
    return indent < block.indent if closes else indent <= block.indent
