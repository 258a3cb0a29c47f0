"""The base class of loss layers, class labels, and the divisor of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import prod
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, Message, exactly, format_shape
from caffecompat.layers._loss_reduction import LossReduction

if TYPE_CHECKING:
    from torch import Tensor


class Loss(Layer):
    """A layer with predictions and labels as bottoms and an unweighted loss (0 axes) as top.

    The net multiplies the loss by ``loss_weight``. The first axes of predictions and labels are
    equal. Only the predictions get a gradient, unless the type sets ``differentiable``.
    """

    bottoms = exactly(2)
    is_loss = True
    automatic_top = True
    in_place = False
    differentiable: ClassVar[tuple[bool, ...]] = (True, False)

    def check_batch(self, first: Tensor, second: Tensor) -> None:
        """Refuses bottoms that differ in their first axis."""
        self.check_batch_shapes(first.shape, second.shape)

    def check_batch_shapes(self, first: Sequence[int], second: Sequence[int]) -> None:
        """:meth:`check_batch`, for the bottoms' shapes."""
        if first[:1] != second[:1] or not first:
            self.refuse(
                f"its bottoms are {format_shape(first)} and {format_shape(second)}; "
                "they must agree in the first axis"
            )

    def check_items(self, first: Tensor, second: Tensor) -> None:
        """Refuses bottoms that differ in their first axis or in the number of elements."""
        self.check_item_shapes(first.shape, second.shape)

    def check_item_shapes(self, first: Sequence[int], second: Sequence[int]) -> None:
        """:meth:`check_items`, for the bottoms' shapes."""
        self.check_batch_shapes(first, second)
        if prod(first) != prod(second):
            self.refuse(
                f"its bottoms are {format_shape(first)} and {format_shape(second)}; "
                "they must have equally many elements"
            )

    def check_label_per_item(self, items: Tensor, labels: Tensor) -> None:
        """Refuses anything but N labels for the items (N, ...)."""
        self.check_batch(items, labels)
        count = items.shape[0]
        if labels.numel() != count:
            self.refuse(
                f"{count} items need {count} labels, but the labels are "
                f"{format_shape(labels.shape)}"
            )


def naming_bad_labels(layer: Layer, classes: int) -> AbstractContextManager[None]:
    """:func:`~caffecompat.layers._bad_index.explaining_bad_index` for labels."""
    return explaining_bad_index(
        layer,
        f"a label lies outside 0 to {classes - 1}, the classes of its scores; "
        "num_output below the number of classes, or a missing ignore_label?",
    )


def check_labels(layer: Layer, scores: Sequence[int], labels: Sequence[int], axis: int) -> None:
    """Refuses scores and labels of these shapes if there is not one label per position."""
    positions = prod(scores[:axis]) * prod(scores[axis + 1 :])
    if prod(labels) != positions:
        layer.refuse(
            f"scores of {format_shape(scores)} with classes along axis {axis} need "
            f"{positions} labels, but the labels are "
            f"{format_shape(labels)}; one integer label per position, not one-hot"
        )


class ClassScores:
    """Class scores along one axis, with one label per position.

    Attributes:
        scores: (outer, classes, ...); the axes before the class axis are merged into one.
        labels: (outer, 1, ...), int64, truncated toward zero; 0 at ignored positions.
        kept: bool, in the shape of labels, False at ignored positions; None if no label is
            ignored.
        outer, classes, inner: extents before, of and after the class axis.
        exact: the number type to compute in: that of the scores, but at least 32 bits.

    Args:
        layer: the layer, for error messages.
        scores, labels: the layer's bottoms.
        axis: the class axis, not negative.
        ignore: the ``ignore_label``.

    Raises:
        LayerError: there is not one label per position.
    """

    def __init__(
        self, layer: Layer, scores: Tensor, labels: Tensor, axis: int, ignore: int | None = None
    ) -> None:
        import torch

        shape = scores.shape
        self.exact = torch.promote_types(scores.dtype, torch.float32)
        self.outer = prod(shape[:axis])
        self.classes = shape[axis]
        self.inner = prod(shape[axis + 1 :])
        check_labels(layer, shape, labels.shape, axis)
        # Each operation of torch takes as long as a small layer.
        if axis == 1:
            self.scores = scores
        else:
            self.scores = scores.flatten(0, axis - 1) if axis else scores.unsqueeze(0)
        wanted = (self.outer, 1, *shape[axis + 1 :])
        whole = (labels.detach() if labels.requires_grad else labels).long()
        self.labels = whole if whole.shape == wanted else whole.reshape(wanted)
        self.kept = None if ignore is None else self.labels != ignore
        if self.kept is not None:
            self.labels = self.labels.where(self.kept, 0)

    def naming_bad_labels(self, layer: Layer) -> AbstractContextManager[None]:
        """:func:`naming_bad_labels` for these classes."""
        return naming_bad_labels(layer, self.classes)


# Fields of R-FCN's LossParameter that a layer with a Normalization supports.
PRE_FIXED_FIELDS = ("loss_param.normalization: PRE_FIXED", "loss_param.pre_fixed_normalizer")


class Normalization:
    """The divisor of a loss, from a LossParameter.

    FULL: the number of positions. VALID: the number of positions whose label is not ignored.
    BATCH_SIZE: the product of the extents before the class axis. NONE: 1. PRE_FIXED, of R-FCN:
    ``pre_fixed_normalizer``. The divisor is at least 1, so that a batch without valid labels has
    loss 0. The old field ``normalize`` means VALID if true and BATCH_SIZE if false;
    ``normalization`` overrides it. Source: LossParameter in caffe.proto, and the layers that read
    it.

    Args:
        message: the LossParameter.
        default: the mode if neither field is given.
    """

    def __init__(self, message: Message, default: str = "VALID") -> None:
        self.ignore = message.ignore_label if message.HasField("ignore_label") else None
        self.fixed = float(message.pre_fixed_normalizer)
        if message.HasField("normalization"):
            self.mode = message.NormalizationMode.Name(message.normalization)
        elif message.HasField("normalize"):
            self.mode = "VALID" if message.normalize else "BATCH_SIZE"
        else:
            self.mode = default

    def reduction(self) -> LossReduction:
        """The loss reduction of this divisor; labels are the layer's second bottom."""
        if self.mode in ("NONE", "PRE_FIXED"):
            return LossReduction.sum()
        if self.mode != "VALID" or self.ignore is None:
            return LossReduction.mean()
        return LossReduction.mean(partial(_count_kept_labels, ignored=self.ignore))

    def divisor(self, outer: int, inner: int, kept: Tensor | None) -> Tensor | float:
        """The divisor for ``outer`` x ``inner`` positions; ``kept`` None means that all count."""
        if self.mode == "NONE":
            return 1
        if self.mode == "PRE_FIXED":
            return max(self.fixed, 1)
        if self.mode == "BATCH_SIZE":
            return max(outer, 1)
        if self.mode == "FULL" or kept is None:
            return max(outer * inner, 1)
        return kept.sum().clamp(min=1)


def _count_kept_labels(bottoms: Sequence[Tensor], ignored: int) -> Tensor:
    """The number of labels, truncated toward zero, other than ``ignored``."""
    return (bottoms[1].detach().trunc() != ignored).sum()
