"""Where the parts of a parsed prototxt stand in its file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field


class Positions:
    """Turns offsets into a text to lines and columns, both counted from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_starts: list[int] | None = None

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at ``offset``."""
        if self._line_starts is None:
            starts = [0]
            newline = self._text.find("\n")
            while newline >= 0:
                starts.append(newline + 1)
                newline = self._text.find("\n", newline + 1)
            self._line_starts = starts
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1


@dataclass(frozen=True)
class Source:
    """The origin of a message that was read from text.

    Attributes:
        path: as the reader was given it.
        lines: for each layer name the lines of its entries, in file order.
        warnings: what a lenient reader passed over, one ``file:line:column: ...`` each.
        notes: what was upgraded on reading, one line each.
        fields: for each field name at the top level the lines where it stands, in file order.
    """

    path: str
    lines: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fields: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

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
