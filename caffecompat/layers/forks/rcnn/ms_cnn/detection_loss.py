"""DetectionLoss of MS-CNN: the loss of a map of class scores and deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers._loss import Loss
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers.forks.rcnn._sampling import hardest
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import FieldBounds, read_box_regression
from caffecompat.layers.forks.rcnn.ms_cnn._dense_targets import DenseTargets, limited, smooth_l1

if TYPE_CHECKING:
    from torch import Tensor

_COORDINATES = 4
_LEAST_HARD = 4
_SAMPLING = ("random", "bootstrap", "mixture")
# Fields of YOLO's layer of this name.
_OTHER_FIELDS = ("side", "num_class", "num_object", "object_scale", "noobject_scale", "coord_scale")


@register("DetectionLoss", fork="MS-CNN")
class DetectionLoss(Loss):
    """A softmax loss of classes, and a loss of boxes, over objects and drawn background.

    Bottoms: (N, C + 4, H, W), scores of ``cls_num`` classes and four deltas; and targets
    (N, 6, H, W): the class, x and y of the centre, width, height, and the overlap. Top
    (1, 1, 1, 2): the sum of both losses, and ``lambda`` times that of boxes, which has no gradient
    but counts in a net's total, as in Caffe.

    Positions without a class are background if their overlap is below ``bg_threshold``.
    ``sample_mode`` random draws as many positions of an image, with repetition, as ``bg_multiple``
    times its objects, 4 * (cls_num - 1) at least, of which those of background count; bootstrap
    takes the background with the highest scores of each class, bg_multiple times its objects, 4 at
    least; mixture does both for half as many; any other word takes all background. The loss of
    boxes is smooth L1, or half the square without ``bb_smooth``, over the deltas of objects within
    ``field_xyr`` and ``field_whr``. ``iou_weighted`` gives objects the weight of their overlap,
    ``pos_neg_weighted`` gives them the share 1 / (1 + bg_multiple). ``objectness`` makes all
    classes one. ``loss_param`` may have an ``ignore_label``. Source: detection_loss_layer of MS-
    CNN.
    """

    bottoms = exactly(2)
    uses_host = True
    param_fields = ("loss_param",)
    fork_fields = ("bbox_reg_param", "detection_loss_param")
    batch_coupling = "divides by the positions drawn from the whole batch"
    loss_reduction = LossReduction.mean()

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.detection_loss_param
        if any(p.HasField(name) for name in _OTHER_FIELDS):
            return False
        return True if p.HasField("cls_num") else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.detection_loss_param
        self.regression = read_box_regression(self, message)
        self.bounds = FieldBounds(p.field_xyr, p.field_whr)
        # The field's name is a word of Python's.
        self.factor = float(getattr(p, "lambda"))
        self.check(
            p.coord_num == _COORDINATES and p.field_w > 0 and p.field_h > 0,
            f"coord_num is {p.coord_num}, field_w {p.field_w} and field_h {p.field_h}; expected 4 "
            "and positive sizes",
        )
        loss = message.loss_param
        self.ignored = loss.ignore_label if loss.HasField("ignore_label") else None

    def forward(self, x: Tensor, maps: Tensor) -> Tensor:
        import torch

        p = self.p
        targets = DenseTargets.beside(self, x, maps, p.cls_num + _COORDINATES)
        scores, deltas = x[:, : p.cls_num], x[:, p.cls_num :]
        labels = targets.labels.clamp(max=1) if p.objectness else targets.labels
        counted = torch.ones_like(labels, dtype=torch.bool)
        if self.ignored is not None:
            counted = labels != self.ignored
        kept = self._background(targets, labels, scores.detach())
        weights = self._weights(targets, kept, x.detach())
        chosen = counted & ((labels != 0) | kept)
        inside = labels.where(counted, 0).clamp(0, p.cls_num - 1).unsqueeze(1)
        losses = -scores.log_softmax(1).gather(1, inside).squeeze(1)
        class_loss = (losses * weights).where(chosen, 0).sum() / chosen.sum().clamp(min=1)
        box_loss = self.factor * self._box_loss(deltas, targets, counted)
        return torch.stack([class_loss + box_loss, box_loss.detach()]).reshape(1, 1, 1, 2)

    def _box_loss(self, deltas: Tensor, targets: DenseTargets, counted: Tensor) -> Tensor:
        fields = deltas.new_tensor([[self.p.field_w, self.p.field_h]]).expand(len(deltas), 2)
        wanted = targets.deltas(fields, self.p.downsample_rate, self.regression)
        difference = limited(deltas, self.bounds, self.regression) - wanted
        errors = smooth_l1(difference) if self.p.bb_smooth else 0.5 * difference * difference
        chosen = counted & (targets.labels != 0)
        return errors.where(chosen.unsqueeze(1), 0).sum() / (4 * chosen.sum()).clamp(min=1)

    def _background(self, targets: DenseTargets, labels: Tensor, scores: Tensor) -> Tensor:
        """Which background counts, (N, H, W) bool."""
        import torch

        free = (targets.labels == 0) & (targets.overlaps < self.p.bg_threshold)
        mode = self.p.sample_mode
        if mode not in _SAMPLING:
            return free
        ratio = 0.5 if mode == "mixture" else 1.0
        kept = torch.zeros_like(free)
        if mode != "bootstrap":
            kept = kept | (free & self._drawn(labels, scores, ratio))
        if mode != "random":
            kept = kept | self._hardest(free, labels, scores, ratio)
        return kept

    def _drawn(self, labels: Tensor, scores: Tensor, ratio: float) -> Tensor:
        """Positions (N, H, W) that are drawn at least once."""
        import torch

        images, positions = len(labels), labels[0].numel()
        wanted = (labels != 0).flatten(1).sum(1) * self.p.bg_multiple * ratio
        wanted = wanted.long().clamp(min=4 * (self.p.cls_num - 1))
        most = max(int(positions * self.p.bg_multiple * ratio), 4 * (self.p.cls_num - 1))
        places = self.noise.bits(scores.new_empty(images, most)).long() % positions
        used = torch.arange(most, device=places.device) < wanted[:, None]
        hits = torch.zeros(images, positions, device=places.device)
        return (hits.scatter_add(1, places, used.float()) > 0).reshape(labels.shape)

    def _hardest(self, free: Tensor, labels: Tensor, scores: Tensor, ratio: float) -> Tensor:
        import torch

        rows = []
        for image in range(len(labels)):
            chosen = torch.zeros_like(free[image].flatten())
            for k in range(1, self.p.cls_num):
                count = ((labels[image] == k).sum() * self.p.bg_multiple * ratio).long()
                limit = count.clamp(min=_LEAST_HARD)
                chosen = chosen | hardest(free[image].flatten(), scores[image, k].flatten(), limit)
            rows.append(chosen.reshape(free[image].shape))
        return torch.stack(rows)

    def _weights(self, targets: DenseTargets, kept: Tensor, like: Tensor) -> Tensor:
        objects = targets.labels != 0
        weights = like.new_ones(objects.shape)
        if self.p.iou_weighted:
            weights = targets.overlaps.where(objects, weights)
        if not self.p.pos_neg_weighted:
            return weights
        share = 1 / (1 + self.p.bg_multiple)
        total = objects.sum() + kept.sum()
        sums = [(weights * chosen).sum() for chosen in (objects, kept)]
        factors = [
            part * total / found.clamp(min=1e-30)
            for part, found in zip((share, 1 - share), sums, strict=True)
        ]
        weighted = weights * factors[0].where(objects, factors[1])
        return weighted.where(sums[0] != 0, weights)
