"""What DetectionAccuracy and DetectionGroupAccuracy have in common: scores at map positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, between
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import (
    FieldBounds,
    field_boxes,
    read_box_regression,
)
from caffecompat.layers.forks.rcnn.ms_cnn._dense_targets import DenseTargets

if TYPE_CHECKING:
    from torch import Tensor


class DenseAccuracy(Layer):
    """Base of the layers that compare class scores and deltas with dense targets.

    Attributes:
        p: the settings of the type.
        with_overlap: whether there is a second top, for the mean overlap.
    """

    tops = between(1, 2)
    in_place = False
    differentiable = (False,)
    uses_host = True
    param_fields = ("loss_param",)
    batch_coupling = "takes its means over the whole batch"

    def read_settings(self, message: Message, param: Message) -> None:
        """Reads what the types have in common; ``param`` is the type's field of ``message``."""
        self.p = param
        self.regression = read_box_regression(self, message)
        self.bounds = FieldBounds(param.field_xyr, param.field_whr)
        loss = message.loss_param
        self.ignored = loss.ignore_label if loss.HasField("ignore_label") else None
        self.with_overlap = len(message.top) > 1

    def class_accuracies(self, scores: Tensor, targets: DenseTargets) -> Tensor:
        """The first top: shares (1, 1, 1, 2) of positions whose class has the highest score."""
        labels = targets.labels.clamp(max=1) if self.p.objectness else targets.labels
        counted = (labels != 0) | (targets.overlaps < self.p.bg_threshold)
        if self.ignored is not None:
            counted = counted & (labels != self.ignored)
        return _shares_of_right_classes(scores.detach(), labels, counted)

    def limited_deltas(self, deltas: Tensor) -> Tensor:
        """Deltas (M, 4, H, W) of a bottom, as they were before they were normalised, limited."""
        return self.bounds.limit(self.regression.original(deltas.detach(), 1))


def _shares_of_right_classes(scores: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """The share of right classes, and that among objects, as (1, 1, 1, 2); -1 without any."""
    import torch

    right = scores.argmax(1) == labels
    objects = counted & (labels != 0)
    shares = [(right & chosen).sum() / chosen.sum().clamp(min=1) for chosen in (counted, objects)]
    missing = [chosen.sum() == 0 for chosen in (counted, objects)]
    values = [share.masked_fill(gone, -1) for share, gone in zip(shares, missing, strict=True)]
    return torch.stack(values).to(scores.dtype).reshape(1, 1, 1, 2)


def mean_overlap(
    deltas: Tensor, targets: DenseTargets, fields: Tensor, stride: float, inclusive: bool
) -> Tensor:
    """The mean overlap of boxes from deltas with their objects, as (1, 1, 1, 1); -1 without any.

    ``inclusive`` counts the last pixel of a box, as Cascade R-CNN does and MS-CNN does not.
    """
    import torch

    boxes = field_boxes(deltas, fields, stride)
    truth = targets.boxes.clone()
    truth[:, :2] -= truth[:, 2:] / 2
    less = 1 if inclusive else 0
    low = torch.maximum(boxes[:, :2], truth[:, :2])
    ends = [found[:, :2] + found[:, 2:] - less for found in (boxes, truth)]
    sides = (torch.minimum(*ends) - low + less).clamp(min=0)
    common = sides.prod(1)
    areas = [found[:, 2:].prod(1) for found in (boxes, truth)]
    valid = (boxes[:, 2:] > 0).all(1) & (truth[:, 2:] > 0).all(1)
    shared = (common / (areas[0] + areas[1] - common)).where(valid, 0)
    chosen = targets.labels != 0
    mean = shared.where(chosen, 0).sum() / chosen.sum().clamp(min=1)
    return mean.masked_fill(~chosen.any(), -1).reshape(1, 1, 1, 1)
