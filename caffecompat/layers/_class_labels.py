"""Which labels a layer accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassLabels:
    """One bottom of a layer holds the numbers of classes: 0 to ``classes`` - 1.

    The labels of the first batches are held against it before a training starts.

    Attributes:
        classes: how many there are.
        ignored: a further label that is accepted, of positions that do not count; None for none.
        can_ignore: whether the layer type has an ``ignore_label``, for messages.
        bottom: the position of the bottom.
    """

    classes: int
    ignored: int | None = None
    can_ignore: bool = True
    bottom: int = 1
