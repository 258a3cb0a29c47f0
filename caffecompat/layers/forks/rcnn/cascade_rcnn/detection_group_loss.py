"""DetectionGroupLoss of Cascade R-CNN: the loss of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, format_shape, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.rcnn._sampling import at_most, draw_keys, hardest
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import FieldBounds, read_box_regression
from caffecompat.layers.forks.rcnn.ms_cnn._dense_targets import DenseTargets, limited, smooth_l1

if TYPE_CHECKING:
    from torch import Tensor

_ALL = -1
_MINING = ("random", "bootstrap", "mixture")
_RANKINGS = ("conf_prob", "conf_loss")
_BOX_LOSSES = ("Smooth_L1", "Euclidean_L2")


@register("DetectionGroupLoss", fork="Cascade R-CNN")
class DetectionGroupLoss(Loss):
    """A softmax loss of classes, and a loss of boxes, over drawn positions of each image.

    Bottoms: scores (N * A, C, H, W), the A anchors of an image after each other; deltas
    (N * A, 4, H, W); and targets (N * A, 6, H, W): the class, x and y of the centre, width, height,
    and the overlap. Top (1, 1, 1, 2): the sum of both losses, and ``lambda`` times that of boxes,
    which has no gradient but counts in a net's total, as in Caffe.

    Objects are positions with a class; background those without whose overlap is below
    ``bg_threshold``. With ``batch_size`` -1 all objects of an image count and ``bg_multiple`` times
    as much background, but at least ``min_num_neg``; else batch_size positions, of them at most the
    share 1 / (1 + bg_multiple) of objects. ``neg_mining_type`` random draws background; bootstrap
    takes that with the largest loss, or with the smallest probability (``neg_ranking_type``
    conf_prob); mixture takes half in each way. ``pos_neg_weighted`` gives objects the weight of
    that share. The loss of boxes is smooth L1, or half the square (``bbox_loss_type``
    Euclidean_L2), over the deltas of drawn objects; with both ``field_xyr`` and ``field_whr`` it is
    of deltas within these limits. ``objectness`` makes all classes one. ``loss_param`` may have an
    ``ignore_label``. Source: detection_group_loss_layer of Cascade R-CNN.
    """

    bottoms = exactly(3)
    differentiable = (True, True, False)
    uses_host = True
    param_fields = ("loss_param",)
    fork_fields = ("bbox_reg_param", "detection_group_loss_param")
    batch_coupling = "divides by the positions drawn from the whole batch"
    loss_reduction = LossReduction.mean()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.detection_group_loss_param
        self.regression = read_box_regression(self, message)
        self.check(
            0 < len(p.field_w) == len(p.field_h),
            f"there are {len(p.field_w)} field_w and {len(p.field_h)} field_h; it needs as many of "
            "each, and at least one",
        )
        for value, known in (
            (p.neg_mining_type, _MINING),
            (p.neg_ranking_type, _RANKINGS),
            (p.bbox_loss_type, _BOX_LOSSES),
        ):
            self.check(value in known, f"{value!r} is none of {', '.join(known)}")
        self.check(p.batch_size > 0 or p.batch_size == _ALL, "batch_size must be positive or -1")
        # The field's name is a word of Python's.
        self.factor = float(getattr(p, "lambda"))
        self.fields = list(zip(p.field_w, p.field_h, strict=True))
        self.bounds = None
        if p.HasField("field_xyr") and p.HasField("field_whr"):
            self.bounds = FieldBounds(p.field_xyr, p.field_whr)
        loss = message.loss_param
        self.ignored = loss.ignore_label if loss.HasField("ignore_label") else None

    def forward(self, scores: Tensor, deltas: Tensor, maps: Tensor) -> Tensor:
        import torch

        self._check_shapes(scores, deltas, maps)
        targets = DenseTargets.of(maps)
        labels = targets.labels.clamp(max=1) if self.p.objectness else targets.labels
        counted = torch.ones_like(labels, dtype=torch.bool)
        if self.ignored is not None:
            counted = labels != self.ignored
        inside = labels.where(counted, 0).clamp(0, scores.shape[1] - 1).unsqueeze(1)
        losses = -scores.log_softmax(1).gather(1, inside).squeeze(1)
        kept = self._kept(targets, scores.detach(), losses.detach())
        weights = self._weights(targets.labels, kept, scores)
        chosen = kept & counted
        class_loss = (losses * weights).where(chosen, 0).sum() / chosen.sum().clamp(min=1)
        box_loss = self._box_loss(deltas, targets, chosen & (targets.labels != 0))
        box_loss = self.factor * box_loss
        return torch.stack([class_loss + box_loss, box_loss.detach()]).reshape(1, 1, 1, 2)

    def _check_shapes(self, scores: Tensor, deltas: Tensor, maps: Tensor) -> None:
        count = scores.shape[0]
        self.check(
            scores.dim() == 4
            and count % len(self.fields) == 0
            and scores.shape[1] == self.p.cls_num
            and tuple(deltas.shape) == (count, 4, *scores.shape[2:])
            and tuple(maps.shape) == (count, 6, *scores.shape[2:]),
            f"its bottoms are {format_shape(scores.shape)}, {format_shape(deltas.shape)} and "
            f"{format_shape(maps.shape)}; expected {self.p.cls_num} (cls_num), 4 and 6 channels "
            f"in maps of one size, a multiple of {len(self.fields)}",
        )

    def _box_loss(self, deltas: Tensor, targets: DenseTargets, chosen: Tensor) -> Tensor:
        fields = deltas.new_tensor(self.fields).repeat(len(deltas) // len(self.fields), 1)
        wanted = targets.deltas(fields, self.p.stride, self.regression)
        found = deltas if self.bounds is None else limited(deltas, self.bounds, self.regression)
        difference = found - wanted
        if self.p.bbox_loss_type == "Smooth_L1":
            errors = smooth_l1(difference)
        else:
            errors = 0.5 * difference * difference
        return errors.where(chosen.unsqueeze(1), 0).sum() / (4 * chosen.sum()).clamp(min=1)

    def _kept(self, targets: DenseTargets, scores: Tensor, losses: Tensor) -> Tensor:
        """Which positions count, drawn for each image; (N * A, H, W) bool."""
        import torch

        ranking = losses
        if self.p.neg_ranking_type == "conf_prob":
            ranking = 1 - scores.softmax(1)[:, 0]
        objects = targets.labels > 0
        background = (targets.labels == 0) & (targets.overlaps < self.p.bg_threshold)
        shape = (len(scores) // len(self.fields), -1)
        keys = draw_keys(self.noise, objects.numel(), scores)
        flat = [x.reshape(shape) for x in (objects, background, ranking, *keys)]
        rows = [self._of_image(*(x[i] for x in flat)) for i in range(shape[0])]
        return torch.stack(rows).reshape(objects.shape)

    def _of_image(
        self, objects: Tensor, background: Tensor, ranking: Tensor, first: Tensor, second: Tensor
    ) -> Tensor:
        p = self.p
        if p.batch_size == _ALL:
            positive = objects
            wanted = (objects.sum() * p.bg_multiple).clamp(min=p.min_num_neg)
        else:
            most = floor(p.batch_size / (1 + p.bg_multiple) + 0.5)
            positive = at_most(objects, first, most)
            wanted = p.batch_size - objects.sum().clamp(max=most)
        wanted = wanted.minimum(background.sum())
        if p.neg_mining_type == "random":
            return positive | at_most(background, second, wanted)
        if p.neg_mining_type == "bootstrap":
            return positive | hardest(background, ranking, wanted)
        # All of it counts where there is not more than is wanted.
        half = (wanted + 1) // 2
        hard = hardest(background, ranking, half)
        return positive | hard | at_most(background & ~hard, second, wanted - half)

    def _weights(self, labels: Tensor, kept: Tensor, like: Tensor) -> Tensor:
        weights = like.new_ones(labels.shape)
        if not self.p.pos_neg_weighted:
            return weights
        share = 1 / (1 + self.p.bg_multiple)
        total = kept.sum()
        for chosen, part in ((labels > 0, share), (labels <= 0, 1 - share)):
            count = (kept & chosen).sum()
            weight = (part * total / count.clamp(min=1)).where(count > 0, 1).to(like.dtype)
            weights = weight.where(chosen, weights)
        return weights
