"""ProposalTarget of Cascade R-CNN: regions to learn from, with classes and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, exactly, format_shape, register
from caffecompat.layers.forks.rcnn._pixel_boxes import encode, overlaps
from caffecompat.layers.forks.rcnn._sampling import draw_keys, some
from caffecompat.layers.forks.rcnn.ms_cnn._box_regression import read_box_regression

if TYPE_CHECKING:
    from torch import Tensor

_ALL = -1
# Random boxes of an image, of which one is taken where no region is left.
_TRIES = 64
_LEAST_SIDE = 32


@dataclass(frozen=True)
class _Matches:
    """For each region the object of its image that it overlaps most: overlap and index, or 0."""

    most: Tensor
    best: Tensor
    ignored: Tensor


@register("ProposalTarget", fork="Cascade R-CNN, MS-CNN")
class ProposalTarget(Layer):
    """A random choice of regions, the class of each, and where its object is.

    Bottoms: regions (P, 5) with rows [image, x1, y1, x2, y2], and objects (G, 7) or more columns,
    rows [image, x1, y1, x2, y2, class, ignored]; rows of image -1 do not count. Tops, with R rows
    and two axes of 1: regions (R, 5), classes (R, 1), targets, inside and outside weights
    (R, 4 * ``cls_num``), or (R, 8) with ``cls_aware: false``; matched objects (R, 6) with rows
    [class, x1, y1, x2, y2, overlap], 0 for background; and perhaps weights of the classes (R, 1).

    With ``append_gtbox`` objects are regions too. A region whose largest overlap is ``fg_thr`` or
    more has the object's class, but is left out if the object is ignored; it is background from
    ``bg_thr_lw`` to below ``bg_thr_hg``. ``batch_size`` are drawn, at most a share of
    ``fg_fraction`` with an object; -1 takes all. With ``pickup_discard`` regions between these
    limits fill up what is missing of background. If none is left, a random box without object
    is. Targets are normalised by ``bbox_reg_param``; their weights are 1 where the overlap is from
    ``bbox_thr_lw`` to ``bbox_thr_hg``. Weights of the classes give objects the share
    ``fg_fraction`` of the sum; with ``iou_weighted`` an object counts by its overlap. When the net
    is built the tops have batch_size rows. Source: proposal_target_layer of Cascade R-CNN; MS-CNN's
    fills up a batch with random boxes, this one does not.
    """

    bottoms = exactly(2)
    tops = between(6, 7)
    in_place = False
    differentiable = (False,)
    fork_fields = ("bbox_reg_param", "proposal_target_param")
    batch_coupling = "draws regions from the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.p = p = message.proposal_target_param
        self.regression = read_box_regression(self, message)
        self.check(
            p.cls_num > 1 and (p.batch_size > 0 or p.batch_size == _ALL),
            f"cls_num is {p.cls_num} and batch_size {p.batch_size}; expected two classes at least, "
            "and a positive batch_size or -1",
        )
        self.check(
            p.fg_thr >= p.bg_thr_hg,
            f"fg_thr is {p.fg_thr:g}, below bg_thr_hg {p.bg_thr_hg:g}",
        )
        self.groups = p.cls_num if self.regression.per_class else 2
        self.with_weights = len(message.top) > 6

    def forward(self, regions: Tensor, objects: Tensor) -> tuple[Tensor, ...]:
        import torch

        self._check_shapes(regions, objects)
        truth = objects.detach().reshape(objects.shape[0], -1)
        truth = truth[truth[:, 0] >= 0]
        every = regions.detach().reshape(-1, 5)
        if self.p.append_gtbox:
            every = torch.cat([every, truth[:, :5]])
        matches = _matched(every, truth)
        positive, negative = self._drawn(matches, every)
        rows = every[torch.cat([positive, negative])]
        if len(rows) == 0:
            rows = self._random_box(every, truth)
        return self._tops(rows, truth, matches, positive)

    def infer(self, regions: Tensor, objects: Tensor) -> tuple[Tensor, ...]:
        self._check_shapes(regions, objects)
        rows = self.p.batch_size if self.p.batch_size > 0 else max(regions.shape[0], 1)
        widths = [5, 1, *[4 * self.groups] * 3, 6, 1]
        return tuple(
            regions.new_empty(rows, wide, 1, 1) for wide in widths[: 6 + self.with_weights]
        )

    def _check_shapes(self, regions: Tensor, objects: Tensor) -> None:
        self.check(
            regions.numel() == 5 * regions.shape[0]
            and objects.dim() > 1
            and objects.numel() >= 7 * objects.shape[0],
            f"its bottoms are {format_shape(regions.shape)} and {format_shape(objects.shape)}; "
            "expected regions P x 5 and objects G x 7",
        )

    def _drawn(self, matches: _Matches, like: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of regions with an object, and of background."""
        import torch

        p, most = self.p, matches.most
        keys = draw_keys(self.noise, len(most), like)
        above = most >= p.fg_thr
        objects = above & ~matches.ignored
        background = ~above & (most >= p.bg_thr_lw) & (most < p.bg_thr_hg)
        if p.batch_size == _ALL:
            return objects.nonzero().squeeze(1), background.nonzero().squeeze(1)
        limit = floor(p.fg_fraction * p.batch_size + 0.5)
        positive = _up_to(objects, keys[0], limit)
        missing = p.batch_size - len(positive)
        negative = _up_to(background, keys[1], missing)
        if p.pickup_discard and len(negative) < missing:
            others = (~above & ~background).nonzero().squeeze(1)
            negative = torch.cat([negative, others[: missing - len(negative)]])
        return positive, negative

    def _random_box(self, every: Tensor, truth: Tensor) -> Tensor:
        """One region that overlaps no object of its image by ``fg_thr``."""
        import torch

        p = self.p
        drawn = self.noise.bits(truth.new_empty(1, _TRIES * 5)).reshape(_TRIES, 5).to(truth) / 2**31
        room = truth.new_tensor([p.img_width, p.img_height])
        low = (drawn[:, 1:3] * (room - _LEAST_SIDE).clamp(min=1)).floor()
        size = (drawn[:, 3:5] * (room - low)).floor().clamp(min=_LEAST_SIDE)
        image = (drawn[:, :1] * p.num_img_per_batch).floor()
        boxes = torch.cat([image, low, low + size - 1], 1)
        free = _matched(boxes, truth).most < p.fg_thr
        return boxes[free][:1] if free.any() else boxes[:1]

    def _tops(
        self, rows: Tensor, truth: Tensor, matches: _Matches, positive: Tensor
    ) -> tuple[Tensor, ...]:
        import torch

        p, count = self.p, len(positive)
        own = truth[matches.best[positive]] if count else truth[:0]
        classes = rows.new_zeros(len(rows))
        classes[:count] = own[:, 5]
        self.check(
            not count or bool(((classes[:count] > 0) & (classes[:count] < p.cls_num)).all()),
            f"an object has a class outside 1 to {p.cls_num - 1}, cls_num less one",
        )
        matched = rows.new_zeros(len(rows), 6)
        matched[:count] = torch.cat([own[:, 5:6], own[:, 1:5], matches.most[positive, None]], 1)
        targets = self.regression.normalised(encode(rows[:count, 1:], own[:, 1:5]), 1)
        group = classes[:count].long().clamp(max=self.groups - 1)
        place = 4 * group[:, None] + torch.arange(4, device=rows.device)
        values, weights = (rows.new_zeros(len(rows), 4 * self.groups) for _ in range(2))
        values[:count] = values[:count].scatter(1, place, targets)
        near = (matched[:count, 5:] >= p.bbox_thr_lw) & (matched[:count, 5:] <= p.bbox_thr_hg)
        weights[:count] = weights[:count].scatter(1, place, near.to(rows).expand(-1, 4))
        tops = [rows, classes.unsqueeze(1), values, weights, weights.clone(), matched]
        if self.with_weights:
            tops.append(self._class_weights(classes, matched).unsqueeze(1))
        return tuple(top[:, :, None, None] for top in tops)

    def _class_weights(self, classes: Tensor, matched: Tensor) -> Tensor:
        objects = classes > 0
        weights = classes.new_ones(len(classes))
        if self.p.iou_weighted:
            weights = matched[:, 5].where(objects, 1)
        sums = weights.where(objects, 0).sum(), weights.where(~objects, 0).sum()
        if sums[0] == 0:
            return weights
        share = self.p.fg_fraction * len(classes) / sums[0]
        rest = (1 - self.p.fg_fraction) * len(classes) / sums[1]
        return weights * share.where(objects, rest)


def _up_to(chosen: Tensor, keys: Tensor, limit: int) -> Tensor:
    """The entries that are True, in order; if they are too many, a random choice of them."""
    found = chosen.nonzero().squeeze(1)
    return found if len(found) <= limit else some(chosen, keys, limit)


def _matched(every: Tensor, truth: Tensor) -> _Matches:
    import torch

    if len(truth) == 0:
        none = torch.zeros(len(every), dtype=torch.int64, device=every.device)
        return _Matches(every.new_zeros(len(every)), none, none.bool())
    other_image = every[:, :1] != truth[None, :, 0]
    shared = overlaps(every[:, 1:], truth[:, 1:5]).masked_fill(other_image, -1)
    most, best = shared.max(1)
    return _Matches(most.clamp(min=0), best, truth[best, 6] != 0)
