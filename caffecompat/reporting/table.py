"""Text tables: full width in a file or a pipe, fitted to the terminal's width on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.reporting import terminal
from caffecompat.reporting.terminal import shorten

Rows = Sequence[Sequence[str]]

_GAP = "  "
# Widths that shortened cells keep while columns can still be left out, and afterwards.
_PREFERRED_MIN_WIDTH, _MIN_WIDTH = 20, 6


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its header.
        right: whether its cells are right-aligned, as numbers are.
        shortens: whether the middle of a cell may be cut out on a narrow terminal.
        rank: 0 is always shown; among the others the highest rank is left out first.
        is_name: whether its cells name the rows; they are shown in bold.
    """

    title: str
    right: bool = False
    shortens: bool = False
    rank: int = 0
    is_name: bool = False


def print_table(columns: Sequence[Column], rows: Rows) -> None:
    """Writes a table to standard output, fitted to the width of a terminal.

    Control characters in cells are shown as escapes. A last line names the columns that were left
    out.
    """
    stream = sys.stdout
    rows = [[terminal.printable(cell) for cell in row] for row in rows]
    width = terminal.columns() if terminal.is_terminal(stream) else None
    kept, widths = _fit(columns, rows, width)
    titles = [column.title for column in columns]
    for row in [titles, *rows]:
        cells = [_cell(row[i], columns[i], widths[i]) for i in kept]
        if row is not titles:
            # Styled after padding, since escape codes have no width.
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
    """The indices of the shown columns, and the widths of all columns."""
    natural = [
        max(len(text) for text in [column.title, *(row[i] for row in rows)])
        for i, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    if width is None:
        return kept, natural
    while True:
        widths = _squeezed(columns, natural, kept, width, _PREFERRED_MIN_WIDTH)
        optional = [i for i in kept if columns[i].rank]
        fits = _total(widths, kept) <= width
        if fits and (not optional or _names_stay_distinct(columns, rows, widths)):
            return kept, widths
        if not optional:
            return kept, _squeezed(columns, natural, kept, width, _MIN_WIDTH)
        kept.remove(max(optional, key=lambda i: columns[i].rank))


def _squeezed(
    columns: Sequence[Column],
    natural: Sequence[int],
    kept: Sequence[int],
    width: int,
    min_width: int,
) -> list[int]:
    """Column widths that fit ``width`` if possible; no column becomes narrower than ``min_width``.

    The widest of the columns that may be shortened is reduced first.
    """
    widths = list(natural)
    shortened = [i for i in kept if columns[i].shortens]
    while shortened and _total(widths, kept) > width:
        widest = max(shortened, key=lambda i: widths[i])
        if widths[widest] <= max(min_width, len(columns[widest].title)):
            break
        widths[widest] -= 1
    return widths


def _names_stay_distinct(columns: Sequence[Column], rows: Rows, widths: Sequence[int]) -> bool:
    """Whether names that differ also differ after shortening."""
    return all(
        len({row[i] for row in rows}) == len({shorten(row[i], widths[i]) for row in rows})
        for i, column in enumerate(columns)
        if column.is_name
    )


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + len(_GAP) * (len(kept) - 1)
