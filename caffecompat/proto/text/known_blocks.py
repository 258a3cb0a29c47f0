"""A cache of parsed messages: one whose text differs in strings only is copied, not parsed.

Many layers of a net have the same text, except for names.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from caffecompat.proto.descriptors import Layout
from caffecompat.proto.schema import Message

# Longer messages are not compared.
_LONGEST = 8000
# Another name or closing brace follows, so that the parser has nothing left to do.
_FOLLOWING = re.compile(r"\s*[;,]?\s*(?:\#[^\n]*\n\s*){0,9}(?=[A-Za-z_}])", re.ASCII)
# A field that takes a string or a list, in a text without the content of strings.
_STRINGS = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)\s*:\s*(["']|\[[^\[\]]*\])""", re.ASCII)
_MOST_BLOCKS = 1000
Key = tuple[str, str, str]


class Block(NamedTuple):
    """The text of a message.

    Attributes:
        key: equal for blocks that differ in strings only: the kind of message, its text up to the
            first inner message without the content of strings, and the rest. The whole of a text
            with comments counts as the rest.
        strings: the content of the strings in the second place.
        end: offset behind its closing brace.
        following: offset of what follows, behind separators and comments.
    """

    key: Key
    strings: list[str]
    end: int
    following: int


class KnownBlock:
    """A parsed block, to be copied for blocks that differ in strings only.

    Attributes:
        room: the memory that its inner messages take.
    """

    def __init__(self, message: bytes, strings: list[tuple[str, bool]], room: int) -> None:
        """
        Args:
            message: without the strings.
            strings: for each string the field that takes it, and whether that takes several.
            room: as above.
        """
        self.room = room
        self._message = message
        self._strings = strings

    def copy_to(self, message: Message, strings: list[str]) -> None:
        """Fills an empty message, with other strings."""
        message.MergeFromString(self._message)
        for (name, repeated), value in zip(self._strings, strings, strict=True):
            if repeated:
                getattr(message, name).append(value)
            else:
                setattr(message, name, value)


class KnownBlocks:
    """The parsed messages of one prototxt."""

    def __init__(self) -> None:
        self._known: dict[Key, KnownBlock] = {}

    def get(self, block: Block) -> KnownBlock | None:
        return self._known.get(block.key)

    def add(self, block: Block, fields: Layout, message: Message, room: int) -> None:
        """Remembers a block, unless there are too many or a string of it has no field for text.

        Args:
            block: only ordinary fields are in it.
            fields: the layout of the message.
            message: what the block says.
            room: the memory that its inner messages take.
        """
        strings: list[tuple[str, bool]] = []
        for name, value in _STRINGS.findall(block.key[1]):
            target = fields.fields.get(name)
            if target is not None and target.kind == "string":
                count = value.count('"') + value.count("'")
                strings += [(name, target.repeated)] * count
        several = {name for name, repeated in strings if repeated}
        if len(strings) != len(block.strings) or len(self._known) >= _MOST_BLOCKS:
            return
        if any(len(getattr(message, name)) > strings.count((name, True)) for name in several):
            return  # more strings of the field follow an inner message
        rest = type(message)()
        rest.CopyFrom(message)
        for name, _ in strings:
            rest.ClearField(name)
        self._known[block.key] = KnownBlock(rest.SerializePartialToString(), strings, room)


def find_block(text: str, start: int, kind: str) -> Block | None:
    """The block that begins at an offset; None for one that is too large or in any way unusual.

    A brace inside a string may be taken for the end of the block. That does no harm: such a text
    is never equal to one that was parsed.

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
        # Comments take longer to cut out than the fields between them to read.
        return Block((kind, "", inside), [], end, following.end())
    head, brace, rest = inside.partition("{")
    quote = '"' if '"' in head else "'"
    pieces = head.split(quote)
    strings = pieces[1::2]
    content = "".join(strings)
    usual = (
        len(pieces) % 2
        and content.isascii()
        and "\n" not in content
        and "\\" not in inside
        and not (quote == '"' and "'" in head)
    )
    if not usual:
        return None
    key = kind, quote.join(pieces[::2]), brace + rest
    return Block(key, strings, end, following.end())


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
