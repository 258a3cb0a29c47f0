"""Labels and indices that come with a batch are compared with what their layers accept.

On a GPU a wrong one would fail inside a kernel, which ends all work of the process. The numbers lie
on the host before they are copied, where the smallest and the largest are found in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError
from caffecompat.graph import Version
from caffecompat.net.built_layer import BuiltLayer


@dataclass(frozen=True)
class AcceptedNumbers:
    """The whole numbers that one layer accepts in a bottom: 0 to ``count`` - 1.

    Attributes:
        place: of the layer.
        ignored: a further number that it accepts; None if there is none.
        what: "label" or "index", and what ``count`` counts, for messages.
    """

    place: str
    count: int
    ignored: int | None
    what: tuple[str, str]


def accepted_numbers(layers: Sequence[BuiltLayer]) -> dict[Version, list[AcceptedNumbers]]:
    """What layers accept in tops of sources that they read directly, or through splits."""
    origin = {top: top for built in layers if built.source is not None for top in built.tops}
    found: dict[Version, list[AcceptedNumbers]] = {}
    for built in layers:
        if built.node.automatic and built.bottoms[0] in origin:
            origin.update(dict.fromkeys(built.tops, origin[built.bottoms[0]]))
        for bottom, accepted in _accepted_by(built):
            if bottom < len(built.bottoms) and built.bottoms[bottom] in origin:
                found.setdefault(origin[built.bottoms[bottom]], []).append(accepted)
    return found


def _accepted_by(built: BuiltLayer) -> list[tuple[int, AcceptedNumbers]]:
    layer = built.layer
    found = []
    if layer is not None and layer.class_labels is not None:
        labels = layer.class_labels
        what = ("label", "classes")
        accepted = AcceptedNumbers(built.place, labels.classes, labels.ignored, what)
        found.append((labels.bottom, accepted))
    if layer is not None and layer.indices is not None:
        indices = layer.indices
        what = ("index", indices.counted)
        found.append((indices.bottom, AcceptedNumbers(built.place, indices.count, None, what)))
    return found


def check_numbers(
    name: str, values: NDArray[np.floating], accepted: Sequence[AcceptedNumbers]
) -> None:
    """Raises :class:`DataError` for the first number of a top that a layer does not accept."""
    if not values.size or not accepted:
        return
    lowest, highest = float(values.min()), float(values.max())
    for one in accepted:
        # Numbers are truncated toward zero. NaN makes the comparison false.
        if not (lowest > -1 and highest < one.count):
            _check_each(name, values, one)


def _check_each(name: str, values: NDArray[np.floating], accepted: AcceptedNumbers) -> None:
    numbers = np.trunc(values)
    right = (numbers >= 0) & (numbers < accepted.count)
    if accepted.ignored is not None:
        right |= numbers == accepted.ignored
    wrong = numbers[~right]
    if wrong.size:
        what, counted = accepted.what
        raise DataError(
            f"{accepted.place}: {what} {wrong.flat[0]:g} of {name!r}, expected 0 to "
            f"{accepted.count - 1}, for {accepted.count} {counted}; change the data, or the net"
        )
