"""What the tests of weight parity have compared: a table at the end of ``pytest -m parity``.

A test tells it with ``record_property``, which reaches the summary from other processes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]
Record = Callable[[str, object], None]

# The name of the property; its values are net, kind, number of layers, largest difference.
PROPERTY = "parity"
WEIGHTS, OUTPUTS = "weights", "outputs"
# Of equal bits, so that it is told from a difference that rounds to 0.
EQUAL = "0 (bits equal)"

COLUMNS = ("net", "layers with weights", "conversions", "weights differ by", "outputs differ by")


def note(record: Record, net: str, kind: str, layers: int, pairs: Iterable[Pair]) -> None:
    """Tells the summary of one comparison, before the test asserts what it should be.

    Args:
        record: the fixture ``record_property``.
        net: its name, as the table shows it.
        kind: :data:`WEIGHTS` or :data:`OUTPUTS`.
        layers: how many layers of the net have weights.
        pairs: the arrays that should be equal, bit for bit.
    """
    record(PROPERTY, [net, kind, layers, _largest(pairs)])


def _largest(pairs: Iterable[Pair]) -> float | None:
    """The largest absolute difference; None where all bits are equal, NaN for other shapes."""
    largest: float | None = None
    for one, other in pairs:
        if one.tobytes() == other.tobytes():
            continue  # In shapes that differ by ones, as those of old weight files.
        if one.shape != other.shape:
            return float("nan")
        apart = np.abs(one.astype(np.float64) - other)[~(np.isnan(one) & np.isnan(other))]
        found = float(apart.max()) if apart.size else 0.0
        largest = found if largest is None or not found <= largest else largest
    return largest


def table(properties: Iterable[tuple[str, Any]]) -> list[str]:
    """Lines of the table, one for each net, from the properties of all tests; [] without any."""
    rows = list(_rows([value for name, value in properties if name == PROPERTY]))
    if not rows:
        return []
    cells = [COLUMNS, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _rows(records: list[tuple[str, str, int, float | None]]) -> Iterator[tuple[str, ...]]:
    for net in sorted({record[0] for record in records}):
        own = [record for record in records if record[0] == net]
        layers = max(record[2] for record in own)
        conversions = sum(record[1] == WEIGHTS for record in own)
        apart = (_shown([r[3] for r in own if r[1] == kind]) for kind in (WEIGHTS, OUTPUTS))
        yield net, str(layers), str(conversions), *apart


def _shown(differences: list[float | None]) -> str:
    """The largest of several differences; nothing where there was none to measure."""
    unequal = [one for one in differences if one is not None]
    if not unequal:
        return EQUAL if differences else ""
    return f"{float(np.max(unequal)):.3g}"
