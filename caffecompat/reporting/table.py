"""Tables: as wide as their cells in a file or a pipe, as wide as the terminal on one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.reporting import terminal
from caffecompat.reporting.terminal import shorten

Rows = Sequence[Sequence[str]]

_GAP = "  "
# What shortened cells keep while there are still columns that can be left out, and at least.
_READABLE, _LEAST = 20, 6


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: the text at its head.
        right: whether its cells stand at the right, as numbers do.
        shortens: whether a cell may lose its middle where the terminal is narrow.
        rank: 0 is always shown; of the others the one with the highest rank is left out first.
        is_name: whether its cells name the rows; they are shown in bold type.
    """

    title: str
    right: bool = False
    shortens: bool = False
    rank: int = 0
    is_name: bool = False


def print_table(columns: Sequence[Column], rows: Rows) -> None:
    """Writes a table to standard output; on a terminal it fits into its width.

    Control characters in cells are shown as escapes. Where columns had to be left out a last line
    names them.
    """
    stream = sys.stdout
    rows = [[terminal.printable(cell) for cell in row] for row in rows]
    width = terminal.columns() if terminal.is_terminal(stream) else None
    kept, widths = _fit(columns, rows, width)
    titles = [column.title for column in columns]
    for row in [titles, *rows]:
        cells = [_cell(row[i], columns[i], widths[i]) for i in kept]
        if row is not titles:
            # Painted after padding: colours have no width.
            cells = [
                terminal.as_name(cell, stream) if columns[i].is_name else cell
                for i, cell in zip(kept, cells, strict=True)
            ]
        print(_GAP.join(cells).rstrip())
    missing = [column.title for i, column in enumerate(columns) if i not in kept]
    if missing:
        print(f"# too narrow for: {', '.join(missing)}; a file or a pipe gets the whole table")


def _cell(text: str, column: Column, width: int) -> str:
    text = shorten(text, width) if column.shortens else text
    return text.rjust(width) if column.right else text.ljust(width)


def _fit(columns: Sequence[Column], rows: Rows, width: int | None) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide each of all columns is."""
    natural = [
        max(len(text) for text in [column.title, *(row[i] for row in rows)])
        for i, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    if width is None:
        return kept, natural
    while True:
        widths = _squeezed(columns, natural, kept, width, _READABLE)
        optional = [i for i in kept if columns[i].rank]
        fits = _total(widths, kept) <= width
        if fits and (not optional or _tells_rows_apart(columns, rows, widths)):
            return kept, widths
        if not optional:
            return kept, _squeezed(columns, natural, kept, width, _LEAST)
        kept.remove(max(optional, key=lambda i: columns[i].rank))


def _squeezed(
    columns: Sequence[Column], natural: Sequence[int], kept: Sequence[int], width: int, least: int
) -> list[int]:
    """The widths after the widest of the cells that may be shortened were cut down to ``least``."""
    widths = list(natural)
    soft = [i for i in kept if columns[i].shortens]
    while soft and _total(widths, kept) > width:
        widest = max(soft, key=lambda i: widths[i])
        if widths[widest] <= max(least, len(columns[widest].title)):
            break
        widths[widest] -= 1
    return widths


def _tells_rows_apart(columns: Sequence[Column], rows: Rows, widths: Sequence[int]) -> bool:
    """Whether names that differ still do so when they are shortened."""
    return all(
        len({row[i] for row in rows}) == len({shorten(row[i], widths[i]) for row in rows})
        for i, column in enumerate(columns)
        if column.is_name
    )


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + len(_GAP) * (len(kept) - 1)
