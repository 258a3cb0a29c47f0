"""The state of parsing a prototxt, which the fast reader and the parser share."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from caffecompat.proto.descriptors import Field, Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.positions import Names
from caffecompat.proto.text.repeats.blocks import Block
from caffecompat.proto.text.repeats.known_blocks import KnownBlocks

# How many unknown fields a lenient reader lists one by one.
MOST_LISTED = 100
# What is read one by one is counted in steps of about five microseconds: a field by the fast
# reader, a message that is not a copy of a known one, and a field by the parser.
FIELD, UNLIKE_MESSAGE, CAREFUL_FIELD = 1, 14, 4


@dataclass(frozen=True)
class BlockStart:
    """A message that was just opened, to be added to the known blocks at its end.

    Attributes:
        block: its text.
        progress: of the state at that time; at the end it is the same if all fields were ordinary.
        room, unlisted: of the state at that time.
    """

    block: Block
    progress: tuple[int, int]
    room: int
    unlisted: int


class OpenMessage:
    """A message that is being read.

    Attributes:
        seen: where each field that takes one value began, and each oneof (its first field).
    """

    __slots__ = ("begun", "closer", "label", "layout", "message", "seen", "start")

    def __init__(
        self, label: str, fields: Layout, message: Message, start: int, closer: str
    ) -> None:
        self.label = label
        self.layout = fields
        self.message = message
        self.start = start
        self.closer = closer
        self.seen: dict[str, int] = {}
        self.begun: BlockStart | None = None

    def note(self, target: Field, start: int) -> None:
        """Remembers where a field that takes one value begins, if it is the first one there."""
        self.seen.setdefault(target.name, start)
        if target.group:
            self.seen.setdefault(target.group, start)


@dataclass
class ParseState:
    """How far a text has been parsed, and what was found.

    Attributes:
        text: the prototxt.
        at: offset of what comes next.
        room: bytes of memory that the messages may still take.
        lenient: unknown fields are skipped.
        most_work: the most steps of ``work``; the fast reader stops there.
        open: the messages around ``at``, outermost first.
        names, places: of every layer that was closed, its name and where it began.
        top_level: where each field at the top level stands.
        known: parsed messages, for texts that repeat.
        steps: how often the fast reader was started.
        work: the steps of what was read one by one.
        unlisted: the number of unknown fields that were skipped without a warning.
        listed: the number of those with a warning.
    """

    text: str
    at: int
    room: int
    lenient: bool
    most_work: float
    open: list[OpenMessage] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    places: array[int] = field(init=False)
    top_level: dict[str, array[int]] = field(default_factory=dict)
    known: KnownBlocks = field(default_factory=KnownBlocks)
    steps: int = 0
    work: int = 0
    listed: int = 0
    unlisted: int = 0

    def __post_init__(self) -> None:
        self.places = self.offsets()

    def offsets(self, *found: int) -> array[int]:
        """Offsets into the text, in four bytes each if that is enough."""
        return array("I" if len(self.text) < 1 << 32 else "Q", found)

    def close(self) -> None:
        """Closes the innermost open message."""
        entry = self.open.pop()
        if entry.layout.is_layer:
            self.note_layer(entry.message, entry.start)

    def note_layer(self, layer: Message, start: int) -> None:
        """Notes the name of a layer, and where that began."""
        self.names.append(layer_name(layer))
        self.places.append(start)

    def note_layers(self, layers: Iterable[Message], starts: Iterable[int]) -> None:
        """The same for many."""
        self.names.extend(map(layer_name, layers))
        self.places.extend(starts)

    def note_names(self, names: list[str], starts: Iterable[int]) -> None:
        """The same for the names themselves, a character for each byte."""
        self.names.extend_encoded(names)
        self.places.extend(starts)

    def progress(self) -> tuple[int, int]:
        """Numbers that change when anything but ordinary fields outside of layers is read."""
        return self.steps, len(self.names)

    @property
    def skips_silently(self) -> bool:
        """Whether the next unknown field is skipped without a warning."""
        return self.lenient and self.listed >= MOST_LISTED

    def places_of(self, name: str) -> array[int]:
        """The offsets of a field of the top level, a list to append to."""
        if name not in self.top_level:
            self.top_level[name] = self.offsets()
        return self.top_level[name]


def layer_name(layer: Message) -> str:
    """The name of a layer of any generation."""
    name: str = layer.name
    if not name and layer.DESCRIPTOR.name == "V1LayerParameter":
        name = layer.layer.name
    return name
