"""A cache of parsed messages: one that differs in strings and numbers only is copied, not parsed.

Most layers of a net have the same text as others, except for names and sizes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from caffecompat.proto.descriptors import Field, Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.repeats.templates import (
    GAP,
    Template,
    UnordinaryError,
    Values,
    template,
)
from caffecompat.proto.text.repeats.value_runs import NEXT
from caffecompat.proto.text.tokens import IN_DOUBLE, IN_SINGLE

# Longer messages, and those of more values, are not compared.
_LONGEST = 8000
_MOST_VALUES = 60
_FOLLOWING = re.compile(NEXT, re.ASCII)
_COMMENT = re.compile(r"#[^\n]*")
# A brace after a "#", which may be in a comment, or a "#" that may be in a string.
_UNUSUAL_COMMENT = re.compile(r"""#[^\n]*[{}]|["'][^"'\n]*#[^"'\n]*["']""")
# What may differ. The first character tells which of the three it is.
_NUMBER = "-?[.0-9][-+.0-9eE]*"
_FORMS = {'"': f'"({IN_DOUBLE})"', "'": f"'({IN_SINGLE})'", "0": f"({_NUMBER})"}
_VALUE = re.compile(
    rf"""("{IN_DOUBLE}"|'{IN_SINGLE}'|(?<=[:\s\[,]){_NUMBER}(?=[\s;,}}\]]))""", re.ASCII
)
# A pattern takes some milliseconds to make, with what regular expressions need at first.
_USES_BEFORE_PATTERN = 20
_MOST_PATTERNS = 100
_NOTHING = re.compile("(?!)")
_MOST_BLOCKS = 1000
Key = tuple[str, str, str]


class Block(NamedTuple):
    """The text of a message.

    Attributes:
        key: equal for blocks that differ in strings, numbers and comments only: the kind of
            message, the text without these, and for each value its quote or a 0.
        values: the content of the strings, and the numbers.
        end: offset behind its closing brace.
        following: offset of what follows, behind separators and comments.
    """

    key: Key
    values: Values
    end: int
    following: int


class ParsedBlock(NamedTuple):
    """A block that was read.

    Attributes:
        block: its text.
        message: what that says.
        room: the memory that its inner messages take.
        unlisted: the number of unknown fields in it, which were skipped without a warning.
    """

    block: Block
    message: Message
    room: int
    unlisted: int


class KnownBlock:
    """A parsed block, to be copied for blocks that differ in strings and numbers only.

    Attributes:
        room, unlisted: as those of the parsed block.
        following: the block that came after this one the last time.
        pattern: the text of such a block with what follows it, a group for each value, once it
            came often.
        target: the field in that text; messages of the same kind may stand in others too. None
            without a pattern.
    """

    def __init__(self, parsed: ParsedBlock, form: Template) -> None:
        self.room = parsed.room
        self.unlisted = parsed.unlisted
        self.following: KnownBlock | None = None
        self.pattern = _NOTHING
        self.target: Field | None = None
        self._uses = 0
        self._key = parsed.block.key
        self._form = form

    def content(self, values: Values) -> str | None:
        """The binary form of the message with other values, a character for each byte.

        None if one of them must be read with care.
        """
        try:
            return self._form.content(values)
        except UnordinaryError:
            return None

    def is_frequent(self) -> bool:
        """Counts a use; whether this was the one after which a pattern is worth its making."""
        self._uses += 1
        return self._uses == _USES_BEFORE_PATTERN

    def make_pattern(self, target: Field, opening: str) -> None:
        """Makes the pattern; ``opening`` is the text up to and with the opening brace."""
        _, text, kinds = self._key
        first, *others = (re.escape(piece) for piece in text.split(GAP))
        values = (_FORMS[kind] + piece for kind, piece in zip(kinds, others, strict=True))
        inside = re.escape(opening) + first + "".join(values)
        # What is equal but for comments has the same key.
        commented = inside.replace("\\\n", f"(?:{_COMMENT.pattern})?\n")
        self.pattern = re.compile(commented + NEXT, re.ASCII)
        self.target = target


class Copy(NamedTuple):
    """A known block with the values of another one.

    Attributes:
        known: the block.
        content: the binary form, a character for each byte.
        following: offset of what follows the other one.
    """

    known: KnownBlock
    content: str
    following: int


class KnownBlocks:
    """The parsed messages of one prototxt.

    Attributes:
        last: the block of the top level that was copied last.
    """

    def __init__(self) -> None:
        self.last: KnownBlock | None = None
        self._known: dict[Key, KnownBlock] = {}
        self._patterns = 0

    def copy(self, block: Block) -> Copy | None:
        """The copy that says the same as a block, if one like it is known."""
        known = self._known.get(block.key)
        content = known.content(block.values) if known is not None else None
        if known is None or content is None:
            return None
        return Copy(known, content, block.following)

    def add(self, parsed: ParsedBlock, fields: Layout) -> None:
        """Remembers a block, unless there are too many or its binary form cannot be put together.

        Args:
            parsed: only ordinary fields are in it.
            fields: the layout of the message.
        """
        if parsed.block.key in self._known or len(self._known) >= _MOST_BLOCKS:
            return
        form = template(parsed.block.key[1], fields, parsed.message, parsed.block.values)
        if form is not None:
            self._known[parsed.block.key] = KnownBlock(parsed, form)

    def note_order(self, known: KnownBlock, target: Field, opening: str) -> None:
        """Remembers that a block at the top level comes after the one before it.

        Args:
            known: the block.
            target: its field.
            opening: the text up to and with its opening brace.
        """
        if known.is_frequent() and self._patterns < _MOST_PATTERNS:
            known.make_pattern(target, opening)
            self._patterns += 1
        if self.last is not None:
            self.last.following = known
        self.last = known


def find_block(text: str, start: int, kind: str) -> Block | None:
    """The block that begins at an offset; None for one that is too large or in any way unusual.

    A brace inside a string may be taken for the end of the block, and what stands between two
    strings of many escapes for a string. That does no harm: quotes are left then, and such a text
    is never equal to one that was parsed and is all ordinary.

    Args:
        text: the prototxt.
        start: offset behind an opening brace.
        kind: name of the message.
    """
    end = _closing_brace(text, start)
    following = _FOLLOWING.match(text, end) if end else None
    if following is None:
        return None
    inside = text[start:end]
    if "#" in inside:
        if _UNUSUAL_COMMENT.search(text, start, end):
            return None
        inside = _COMMENT.sub("", inside)
    pieces = _VALUE.split(inside)
    written, words = pieces[1::2], GAP.join(pieces[::2])
    if len(written) > _MOST_VALUES:
        return None
    kinds, values = "", []
    for value in written:
        if value[0] in "\"'":
            kinds += value[0]
            values.append(value[1:-1])
        else:
            kinds += "0"
            values.append(value)
    return Block((kind, words, kinds), tuple(values), end, following.end())


def _closing_brace(text: str, start: int) -> int:
    """The offset behind the brace that closes what is open at ``start``; 0 if it is far away."""
    depth, at, limit = 1, start, start + _LONGEST
    while depth:
        brace = text.find("}", at, limit)
        if brace < 0:
            return 0
        depth += text.count("{", at, brace) - 1
        at = brace + 1
    return at
