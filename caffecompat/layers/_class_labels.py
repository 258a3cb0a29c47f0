"""The ranges of class labels and indices that a layer accepts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassLabels:
    """One bottom of a layer holds class labels from 0 to ``classes`` - 1.

    Before a training starts, the labels of the first batches are checked against it.

    Attributes:
        classes: the number of classes.
        ignored: the ``ignore_label``, which is accepted too; None if there is none.
        can_ignore: whether the layer type has an ``ignore_label``, for messages.
        bottom: the index of the bottom.
        ignore_in: the message of the layer that has the ``ignore_label``, for messages.
    """

    classes: int
    ignored: int | None = None
    can_ignore: bool = True
    bottom: int = 1
    ignore_in: str = "loss_param"


@dataclass(frozen=True)
class Indices:
    """One bottom of a layer holds indices from 0 to ``count`` - 1.

    On a GPU those that come from data are checked before they are used.

    Attributes:
        count: the number of things that are indexed.
        counted: what they are, for messages, such as "rows of the table".
        bottom: the index of the bottom.
    """

    count: int
    counted: str
    bottom: int
