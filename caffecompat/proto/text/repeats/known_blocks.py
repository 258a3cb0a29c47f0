"""A cache of parsed messages: one that differs in strings and numbers only is copied, not parsed.

Most layers of a net have the same text as others, except for names and sizes. What came in which
order is remembered too, since it mostly comes so again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from caffecompat.proto.descriptors import Field, Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.repeats.blocks import (
    Block,
    Key,
    Traits,
    block_pattern,
    field_pattern,
    without_blanks,
)
from caffecompat.proto.text.repeats.templates import Made, Values, length_key, template, value_key
from caffecompat.proto.text.repeats.value_forms import (
    Column,
    UnordinaryError,
    ValueForm,
    form_of,
    joined,
    sized,
    string_contents,
)

# A pattern takes some milliseconds to make, with what regular expressions need at first.
_USES_BEFORE_PATTERN = 20
_MOST_PATTERNS = 100
_NOTHING = re.compile("(?!)")
_MOST_BLOCKS = 2000
# As many blocks are tried behind another one.
_MOST_FOLLOWERS = 8


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


class Known:
    """Text that came before, but for its strings and numbers.

    Attributes:
        target: the field.
        room: the memory that its message takes, in bytes.
        unlisted: the number of unknown fields in it, which are skipped without a warning.
        pattern: the text with what follows it, a group for each value, once it came often.
        followers: those with a pattern that came after this one, the latest first.
        is_message: whether it is a message in braces.
    """

    is_message = True

    def __init__(self, target: Field, room: int, unlisted: int) -> None:
        self.target = target
        self.room = room
        self.unlisted = unlisted
        self.pattern = _NOTHING
        self.followers: list[Known] = []
        self.uses = 0

    def contents(self, columns: Sequence[Column]) -> Column:
        """The binary form of the field with other values, a character for each byte.

        Raises:
            UnordinaryError: one of the values must be read with care.
        """
        raise NotImplementedError

    def names(self, columns: Sequence[Column]) -> Column | None:
        """The names of layers with these values, a character for each byte; None if not known."""
        return None

    def note_follower(self, known: Known) -> None:
        """Remembers what comes after this."""
        if known in self.followers:
            self.followers.remove(known)
        self.followers.insert(0, known)
        del self.followers[_MOST_FOLLOWERS:]


class KnownField(Known):
    """A field of the top level that takes several strings or numbers, each with its name."""

    is_message = False

    def __init__(self, target: Field, form: ValueForm) -> None:
        super().__init__(target, 0, 0)
        self._form = form

    def contents(self, columns: Sequence[Column]) -> Column:
        return joined([value_key(self.target, self._form), *self._form.parts(columns)])

    def make_pattern(self, quote: str) -> None:
        """Makes the pattern; ``quote`` is what stands around its strings."""
        self.pattern = field_pattern(self.target, quote, self._form.pattern)


class KnownBlock(Known):
    """A parsed block, to be copied for blocks that differ in strings and numbers only."""

    def __init__(self, parsed: ParsedBlock, made: Made) -> None:
        target = parsed.block.key[0]
        super().__init__(target, target.inside.size + parsed.room, parsed.unlisted)
        self.traits = Traits()
        self._made = made

    def content(self, values: Values) -> str | None:
        """The binary form of the message with other values, a character for each byte.

        None if one of them must be read with care.
        """
        try:
            return str(self._made.template.content(values))
        except UnordinaryError:
            return None

    def contents(self, columns: Sequence[Column]) -> Column:
        content = self._made.template.content(columns)
        return joined([length_key(self.target), *sized(content)])

    def names(self, columns: Sequence[Column]) -> Column | None:
        place = self._made.name
        return string_contents(columns[slice(*place)]) if place is not None else None

    def make_pattern(self, block: Block) -> None:
        """Makes the pattern for blocks like this one, and those for which it was made before."""
        self.traits = self.traits.with_those_of(block)
        self.pattern = block_pattern(block.key, self._made.patterns, self.traits)


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
        last: for each kind of message what was read last in it of the known.
        tried: the offset where none of those that could follow was found.
    """

    def __init__(self) -> None:
        self.last: dict[Layout, Known] = {}
        self.tried = -1
        self._known: dict[Key, KnownBlock | None] = {}
        self._fields: dict[tuple[Field, str], KnownField | None] = {}
        self._patterns = 0

    def copy(self, block: Block) -> Copy | None:
        """The copy that says the same as a block, if one like it is known."""
        known = self._find(block.key)
        content = known.content(block.values) if known is not None else None
        if known is None or content is None:
            return None
        return Copy(known, content, block.following)

    def add(self, parsed: ParsedBlock) -> None:
        """Remembers a block, unless there are too many or its binary form cannot be put together.

        Args:
            parsed: only ordinary fields are in it.
        """
        key = parsed.block.key
        if self._find(key) is not None or len(self._known) >= _MOST_BLOCKS:
            return
        made = template(key[1], key[0].inside, parsed.message, parsed.block.values)
        self._known[key] = KnownBlock(parsed, made) if made is not None else None
        self._known[without_blanks(key)] = self._known[key]

    def _find(self, key: Key) -> KnownBlock | None:
        if key in self._known:
            return self._known[key]
        known = self._known.get(without_blanks(key))
        if known is not None and len(self._known) < _MOST_BLOCKS:
            self._known[key] = known
        return known

    def note_block(self, known: KnownBlock, block: Block, around: Layout) -> None:
        """Remembers that a block comes after what was before it.

        Args:
            known: the known block that was copied.
            block: the one that was read.
            around: the message around them.
        """
        wants = self._wants_pattern(known)
        if known.pattern is not _NOTHING and known.traits.with_those_of(block) != known.traits:
            wants = True
        if wants and self._patterns < _MOST_PATTERNS:
            known.make_pattern(block)
            self._patterns += 1
        self._note_order(known, around)

    def note_field(self, target: Field, quote: str, around: Layout) -> KnownField | None:
        """The same for a single string (in quotes of this kind) or number (without any)."""
        key = (target, quote)
        if key not in self._fields:
            form = form_of(target)
            self._fields[key] = KnownField(target, form) if form is not None else None
        known = self._fields[key]
        if known is not None:
            if self._wants_pattern(known):
                known.make_pattern(quote)
            self._note_order(known, around)
        return known

    def _wants_pattern(self, known: Known) -> bool:
        """Counts a use; whether this is the one after which a pattern is worth its making."""
        known.uses += 1
        return known.uses == _USES_BEFORE_PATTERN

    def _note_order(self, known: Known, around: Layout) -> None:
        last = self.last.get(around)
        if last is not None and known.pattern is not _NOTHING:
            last.note_follower(known)
        self.last[around] = known
