"""Where the parts of a parsed prototxt stand in its file."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
        if offsets and offsets[0] == offsets[-1]:  # a list in brackets
            return repeat(self.line(offsets[0]), len(offsets))
        ends = map(self._text.count, repeat("\n"), chain([0], offsets), offsets)
        return islice(accumulate(ends, initial=1), 1, None)


def _line_ends(text: str) -> list[int]:
    counts = [0]
    for start in range(0, len(text), _BLOCK):
        counts.append(counts[-1] + text.count("\n", start, start + _BLOCK))
    return counts


class Lines(Collection[int]):
    """The lines of ascending offsets, each found when it is asked for; keeps the text."""

    def __init__(self, positions: Positions, offsets: Sequence[int]) -> None:
        self._positions = positions
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[int]:
        return self._positions.lines(self._offsets)

    def __contains__(self, line: object) -> bool:
        return any(line == found for found in self)

    def at(self, index: int) -> int:
        """The line of one of the offsets."""
        return self._positions.line(self._offsets[index])


class Names:
    """A list of names in a few bytes each, where strings of Python take fifty more."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._lengths = array("I")

    def append(self, name: str) -> None:
        self.extend([name])

    def extend(self, names: Iterable[str]) -> None:
        encoded = [name.encode(errors="surrogatepass").decode("latin-1") for name in names]
        self.extend_encoded(encoded)

    def extend_encoded(self, names: list[str]) -> None:
        """Adds names that are encoded, a character for each byte."""
        self._lengths.extend(array("I", map(len, names)))
        self._content += "".join(names).encode("latin-1")

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for length in self._lengths:
            yield self._content[start : start + length].decode(errors="surrogatepass")
            start += length


class LayerLines(Mapping[str, Sequence[int]]):
    """The lines of layers by name, sorted by name when one is asked for."""

    def __init__(self, names: Names, lines: Iterable[int]) -> None:
        self._names = names
        self._lines = lines

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        result: dict[str, list[int]] = {}
        for name, line in zip(self._names, self._lines, strict=True):
            result.setdefault(name, []).append(line)
        return result

    def __getitem__(self, name: str) -> Sequence[int]:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


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
    fields: Mapping[str, Lines] = field(default_factory=dict)

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
        lines = self.fields.get(name)
        return lines.at(index) if lines is not None and 0 <= index < len(lines) else None
