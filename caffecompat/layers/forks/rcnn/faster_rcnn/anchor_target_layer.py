"""AnchorTargetLayer of py-faster-rcnn: labels and targets of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, format_shape
from caffecompat.layers._python_equivalent import (
    REQUIRED,
    PythonEquivalent,
    register_python_layer,
)
from caffecompat.layers.forks.rcnn._anchors import anchors_of_map, as_maps, base_anchors
from caffecompat.layers.forks.rcnn._one_image import OneImage, before_the_first_pass
from caffecompat.layers.forks.rcnn._pixel_boxes import encode, overlaps
from caffecompat.layers.forks.rcnn._sampling import at_most, draw_keys
from caffecompat.layers.forks.rcnn.proposals.proposal_layer import BASE_SIZE, RATIOS, SCALES

if TYPE_CHECKING:
    from torch import Tensor

_IGNORED = -1


@dataclass(frozen=True)
class _Labelled:
    """Anchors with labels: 1 for objects, 0 for background, -1 for those that do not count.

    Attributes:
        labels: (n,), float.
        best: (n,) int64, the object that each anchor overlaps most.
    """

    labels: Tensor
    best: Tensor


@register_python_layer(
    ("rpn.anchor_target_layer", "AnchorTargetLayer"),
    ("lib.rpn.anchor_target_layer", "AnchorTargetLayer"),
    fork="py-faster-rcnn",
)
class AnchorTargetLayer(OneImage, PythonEquivalent):
    """Which anchors of one image are objects or background, and where the objects are.

    Bottoms: a map (1, any, H, W), of which only the size counts; objects (G, 5) with rows
    [x1, y1, x2, y2, class]; [height, width, scale] of the image; and perhaps the image. Tops:
    labels (1, 1, A * H, W), 1 for objects, 0 for background and -1 for neither; targets, inside
    weights and outside weights (1, 4A, H, W).

    Only anchors count that lie in the image, but for ``allowed_border`` pixels (0). An anchor is an
    object if it overlaps one by RPN_POSITIVE_OVERLAP (0.7) or more, or more than other anchors do;
    it is background if it overlaps all by less than RPN_NEGATIVE_OVERLAP (0.3).
    RPN_BATCHSIZE (256) of them are drawn, at most a share of RPN_FG_FRACTION (0.5) of objects.
    RPN_CLOBBER_POSITIVES (false) lets background replace objects. Inside weights are
    RPN_BBOX_INSIDE_WEIGHTS (1, 1, 1, 1) at objects; outside weights are 1 by the number of drawn
    anchors, or with RPN_POSITIVE_WEIGHT (-1) p between 0 and 1, p by the number of objects and
    1 - p by that of background. These are keys of ``param_str``, as are ``feat_stride``,
    ``scales``, ``ratios`` and ``base_size``, see ProposalLayer. An image without objects has
    background only. Source: rpn/anchor_target_layer.py of py-faster-rcnn.
    """

    bottoms = between(3, 4)
    tops = between(4, 4)
    uses_host = True
    options = {
        "feat_stride": REQUIRED,
        "scales": SCALES,
        "ratios": RATIOS,
        "base_size": BASE_SIZE,
        "allowed_border": 0,
        "RPN_POSITIVE_OVERLAP": 0.7,
        "RPN_NEGATIVE_OVERLAP": 0.3,
        "RPN_CLOBBER_POSITIVES": False,
        "RPN_FG_FRACTION": 0.5,
        "RPN_BATCHSIZE": 256,
        "RPN_BBOX_INSIDE_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
        "RPN_POSITIVE_WEIGHT": -1.0,
    }

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.read_options(message)
        given = self.given
        self.anchors = base_anchors(given["base_size"], given["ratios"], given["scales"])
        self.check(
            len(given["RPN_BBOX_INSIDE_WEIGHTS"]) == 4,
            "param_str: RPN_BBOX_INSIDE_WEIGHTS must have 4 numbers",
        )
        weight = given["RPN_POSITIVE_WEIGHT"]
        self.check(weight < 1, f"param_str: RPN_POSITIVE_WEIGHT is {weight}, expected below 1")

    def forward(self, scores: Tensor, objects: Tensor, info: Tensor, *image: Tensor) -> object:
        self.check(
            scores.dim() == 4 and scores.shape[0] == 1,
            f"its first bottom is {format_shape(scores.shape)}; expected a batch of one map",
        )
        objects = before_the_first_pass(objects)
        self.check(
            objects.dim() >= 2 and objects.shape[1] == 5 and info.numel() >= 3,
            f"its bottoms are objects {format_shape(objects.shape)} and facts of the image "
            f"{format_shape(info.shape)}; expected G x 5 and [height, width, scale]",
        )
        height, width = scores.shape[2:]
        exact = objects.detach().double().reshape(-1, 5)
        stride = self.given["feat_stride"]
        anchors = anchors_of_map(self.anchors, height, width, stride, exact)
        inside = self._inside(anchors, info.detach().double().reshape(-1))
        labelled = self._labelled(anchors, exact[:, :4], inside)
        labels = self._sampled(labelled.labels, scores)
        positive = (labels == 1).unsqueeze(1)
        targets = anchors.new_zeros(anchors.shape)
        if exact.shape[0]:
            found = encode(anchors, exact[labelled.best, :4])
            targets = found.where(inside.unsqueeze(1), 0)
        within = anchors.new_tensor(self.given["RPN_BBOX_INSIDE_WEIGHTS"]) * positive
        outside = self._outside_weights(labels).unsqueeze(1).expand(-1, 4)
        label_map = as_maps(labels.unsqueeze(1), height, width)
        maps = (as_maps(rows, height, width) for rows in (targets, within, outside))
        tops = (label_map.reshape(1, 1, len(self.anchors) * height, width), *maps)
        return tuple(top.to(scores.dtype) for top in tops)

    def _inside(self, anchors: Tensor, info: Tensor) -> Tensor:
        border = self.given["allowed_border"]
        x1, y1, x2, y2 = anchors.unbind(1)
        low = (x1 >= -border) & (y1 >= -border)
        return low & (x2 < info[1] + border) & (y2 < info[0] + border)

    def _labelled(self, anchors: Tensor, objects: Tensor, inside: Tensor) -> _Labelled:
        import torch

        labels = anchors.new_full((len(anchors),), _IGNORED)
        if objects.shape[0] == 0:
            best = torch.zeros_like(labels, dtype=torch.int64)
            return _Labelled(labels.masked_fill(inside, 0), best)
        shared = overlaps(anchors, objects).masked_fill(~inside.unsqueeze(1), -1)
        most, best = shared.max(1)
        background = inside & (most < self.given["RPN_NEGATIVE_OVERLAP"])
        nearest = inside & (shared == shared.amax(0)).any(1)
        positive = nearest | (inside & (most >= self.given["RPN_POSITIVE_OVERLAP"]))
        if self.given["RPN_CLOBBER_POSITIVES"]:
            labels = labels.masked_fill(positive, 1).masked_fill(background, 0)
        else:
            labels = labels.masked_fill(background, 0).masked_fill(positive, 1)
        return _Labelled(labels, best)

    def _sampled(self, labels: Tensor, like: Tensor) -> Tensor:
        """The labels, of which up to RPN_BATCHSIZE are not -1."""
        keys = draw_keys(self.noise, len(labels), like)
        size = self.given["RPN_BATCHSIZE"]
        objects = at_most(labels == 1, keys[0], int(self.given["RPN_FG_FRACTION"] * size))
        background = at_most(labels == 0, keys[1], size - objects.sum())
        return labels.masked_fill(~(objects | background), _IGNORED)

    def _outside_weights(self, labels: Tensor) -> Tensor:
        weight = self.given["RPN_POSITIVE_WEIGHT"]
        positive, negative = (labels == 1).to(labels), (labels == 0).to(labels)
        if weight < 0:
            return (positive + negative) / (positive + negative).sum().clamp(min=1)
        shares = weight / positive.sum().clamp(min=1), (1 - weight) / negative.sum().clamp(min=1)
        return positive * shares[0] + negative * shares[1]
