"""How far a prototxt has been read: what the fast and the careful reader both go on from."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from caffecompat.proto.descriptors import Layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.known_blocks import Block, KnownBlocks

# How many unknown fields a lenient reader lists one by one.
MOST_LISTED = 100


@dataclass(frozen=True)
class Begun:
    """A message that was just opened, whose text may come again.

    Attributes:
        block: its text.
        progress: of the reading then; it is the same at its end if all in it was ordinary.
        room: of the reading then.
    """

    block: Block
    progress: tuple[int, int, int]
    room: int


class OpenMessage:
    """A message that is being read."""

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
        self.begun: Begun | None = None


@dataclass
class Reading:
    """How far a text has been read, and what was found so far.

    Attributes:
        text: the prototxt.
        at: offset of what comes next.
        room: bytes of memory that the messages may still take.
        lenient: unknown fields are passed over.
        open: the messages around ``at``, outermost first.
        names, places: of every layer that was closed, its name and where it began.
        top_level: where each field at the top level stands.
        known: messages that may come again.
        steps: how often the fast reader has begun.
        unlisted: how many unknown fields were passed over without a word.
        listed: how many with one.
    """

    text: str
    at: int
    room: int
    lenient: bool
    open: list[OpenMessage] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    places: array[int] = field(default_factory=lambda: array("q"))
    top_level: dict[str, array[int]] = field(default_factory=dict)
    known: KnownBlocks = field(default_factory=KnownBlocks)
    steps: int = 0
    listed: int = 0
    unlisted: int = 0

    def close(self) -> None:
        """Takes the innermost message from the open ones."""
        entry = self.open.pop()
        if entry.layout.is_layer:
            self.note_layer(entry.message, entry.start)

    def note_layer(self, layer: Message, start: int) -> None:
        self.names.append(layer_name(layer))
        self.places.append(start)

    def progress(self) -> tuple[int, int, int]:
        """Changes whenever more is found than ordinary fields of messages that are no layers."""
        return self.steps, len(self.names), self.unlisted

    def passes_over_more(self) -> bool:
        """Whether one more unknown field is passed over without a word; counts it."""
        passes = self.lenient and self.listed >= MOST_LISTED
        self.unlisted += passes
        return passes

    def places_of(self, name: str) -> array[int]:
        """Where a field of the top level stands; to be added to."""
        if name not in self.top_level:
            self.top_level[name] = array("q")
        return self.top_level[name]


def layer_name(layer: Message) -> str:
    """The name of a layer of any generation."""
    name: str = layer.name
    if not name and layer.DESCRIPTOR.name == "V1LayerParameter":
        name = layer.layer.name
    return name
