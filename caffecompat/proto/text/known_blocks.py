"""A cache of parsed messages: one whose text differs in strings only is copied, not parsed.

Many layers of a net have the same text, except for names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from caffecompat.proto.descriptors import Field, Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.runs import NEXT

# Longer messages are not compared.
_LONGEST = 8000
_NOTHING = re.compile("(?!)")
_FOLLOWING = re.compile(NEXT, re.ASCII)
# A string as find_block takes it.
_PLAIN = r"[\x00-\x09\x0b-!#-&(-\[\]-\x7f]*"
_COMMENT = re.compile(r"#[^\n]*")
# A brace after a "#", which may be in a comment, or a "#" that may be in a string.
_UNUSUAL_COMMENT = re.compile(r"""#[^\n]*[{}]|["'][^"'\n]*#[^"'\n]*["']""")
# A pattern takes some milliseconds to make, with what regular expressions need at first.
_USES_BEFORE_PATTERN = 20
_MOST_PATTERNS = 100
# A field that takes a string or a list, in a text without the content of strings.
_STRINGS = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)\s*:\s*(["']|\[[^\[\]]*\])""", re.ASCII)
_MOST_BLOCKS = 1000
Key = tuple[str, str, str]


class Block(NamedTuple):
    """The text of a message.

    Attributes:
        key: equal for blocks that differ in strings and comments only: the kind of message, its
            text up to the first inner message without the content of strings, and the rest.
        strings: the content of the strings in the second place.
        end: offset behind its closing brace.
        following: offset of what follows, behind separators and comments.
    """

    key: Key
    strings: list[str]
    end: int
    following: int


class ParsedBlock(NamedTuple):
    """A block that was read.

    Attributes:
        block: its text.
        message: what that says.
        room: the memory that its inner messages take.
        name: that of the layer, if it is one.
    """

    block: Block
    message: Message
    room: int
    name: str


class KnownBlock:
    """A parsed block, to be copied for blocks that differ in strings only.

    Attributes:
        room: the memory that its inner messages take.
        following: the block that came after this one the last time.
        pattern: the text of such a block with what follows it, a group for each string, once it
            came often.
        target: the field in that text; messages of the same kind may stand in others too. None
            without a pattern.
    """

    def __init__(self, parsed: ParsedBlock, strings: list[Field]) -> None:
        """
        Args:
            parsed: the first block of this text.
            strings: for each string the field that takes it.
        """
        self.room = parsed.room
        self.following: KnownBlock | None = None
        self.pattern = _NOTHING
        self.target: Field | None = None
        self._uses = 0
        self._key = parsed.block.key
        self._name = parsed.name
        names = [field.name for field in strings]
        self._name_at = names.index("name") if "name" in names else None
        self._keys = [length_key(field) for field in strings]
        rest = type(parsed.message)()
        rest.CopyFrom(parsed.message)
        for field in {field.name: field for field in strings}.values():
            if field.repeated:
                # More of them may follow an inner message.
                del getattr(rest, field.name)[: names.count(field.name)]
            else:
                rest.ClearField(field.name)
        self._rest = rest.SerializePartialToString().decode("latin-1")

    def content(self, strings: Sequence[str]) -> str:
        """The binary form of the message with other strings, a character for each byte."""
        parts = []
        for key, value in zip(self._keys, strings, strict=True):
            size = len(value)
            parts += [key, chr(size) if size < 0x80 else varint(size), value]
        parts.append(self._rest)
        return "".join(parts)

    def copy_to(self, message: Message, strings: Sequence[str]) -> None:
        """Fills an empty message, with other strings."""
        message.MergeFromString(self.content(strings).encode("latin-1"))

    def name(self, strings: Sequence[str]) -> str:
        """The name of the layer, with these strings."""
        return self._name if self._name_at is None else strings[self._name_at]

    def is_frequent(self) -> bool:
        """Counts a use; whether this was the one after which a pattern is worth its making."""
        self._uses += 1
        return self._uses == _USES_BEFORE_PATTERN

    def make_pattern(self, target: Field, opening: str) -> None:
        """Makes the pattern; ``opening`` is the text up to and with the opening brace."""
        _, head, rest = self._key
        quote = '"' if '"' in head else "'"
        pieces = [re.escape(piece) for piece in (opening + head).split(quote)]
        inside = f"{quote}({_PLAIN}){quote}".join(pieces) + re.escape(rest)
        # What is equal but for comments has the same key.
        commented = inside.replace("\\\n", f"(?:{_COMMENT.pattern})?\n")
        self.pattern = re.compile(commented + NEXT, re.ASCII)
        self.target = target


class KnownBlocks:
    """The parsed messages of one prototxt.

    Attributes:
        last: the block of the top level that was copied last.
    """

    def __init__(self) -> None:
        self.last: KnownBlock | None = None
        self._known: dict[Key, KnownBlock] = {}
        self._patterns = 0

    def get(self, block: Block) -> KnownBlock | None:
        return self._known.get(block.key)

    def add(self, parsed: ParsedBlock, fields: Layout) -> None:
        """Remembers a block, unless there are too many or a string of it has no field for text.

        Args:
            parsed: only ordinary fields are in it.
            fields: the layout of the message.
        """
        block, strings = parsed.block, list[Field]()
        for name, value in _STRINGS.findall(block.key[1]):
            target = fields.fields.get(name)
            if target is not None and target.kind == "string":
                strings += [target] * (value.count('"') + value.count("'"))
        if len(strings) == len(block.strings) and len(self._known) < _MOST_BLOCKS:
            self._known[block.key] = KnownBlock(parsed, strings)

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


def varint(number: int) -> str:
    """A number in binary form, a character for each byte."""
    digits = ""
    while number >= 0x80:
        digits += chr(number & 0x7F | 0x80)
        number >>= 7
    return digits + chr(number)


def length_key(field: Field) -> str:
    """What comes before the length of a string or message in binary form."""
    return varint(field.number << 3 | 2)


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
        if _UNUSUAL_COMMENT.search(text, start, end):
            return None
        inside = _COMMENT.sub("", inside)
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
