"""Where the parts of a parsed prototxt stand in its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice, repeat

# Line ends are counted once for each block of so many characters.
_BLOCK = 1 << 16


class Positions:
    """Turns offsets into a text to lines and columns, both counted from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_ends_before: list[int] = []

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at ``offset``."""
        return self.line(offset), offset - self._text.rfind("\n", 0, offset)

    def line(self, offset: int) -> int:
        """Line of the character at ``offset``."""
        if not self._line_ends_before:
            self._line_ends_before = _line_ends(self._text)
        block = offset // _BLOCK
        return self._line_ends_before[block] + self._text.count("\n", block * _BLOCK, offset) + 1

    def lines(self, offsets: Sequence[int]) -> Iterator[int]:
        """The lines of ascending offsets, in one pass over the text."""
        ends = map(self._text.count, repeat("\n"), chain([0], offsets), offsets)
        return islice(accumulate(ends, initial=1), 1, None)


def _line_ends(text: str) -> list[int]:
    counts = [0]
    for start in range(0, len(text), _BLOCK):
        counts.append(counts[-1] + text.count("\n", start, start + _BLOCK))
    return counts


@dataclass(frozen=True)
class Source:
    """The origin of a message that was read from text.

    Attributes:
        path: as given to the reader.
        lines: for each layer name the lines of its entries, in file order.
        warnings: one ``file:line:column: ...`` for each field that a lenient reader skipped.
        notes: one line for each upgrade on reading.
        fields: for each field name at the top level the lines where it stands, in file order.
    """

    path: str
    lines: Mapping[str, Sequence[int]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fields: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def place(self, name: str, occurrence: int = 0) -> str:
        """``"net.prototxt:41"`` for a layer's entry; the path alone where the line is unknown."""
        lines = self.lines.get(name, ())
        if 0 <= occurrence < len(lines):
            return f"{self.path}:{lines[occurrence]}"
        return self.path

    def line_of(self, name: str, index: int = 0) -> int | None:
        """The line of the index-th value of a top-level field; None where it is unknown.

        All values of a list in brackets have the line where the field's name stands.
        """
        lines = self.fields.get(name, ())
        return lines[index] if 0 <= index < len(lines) else None
