"""ROIGenerating of SubCNN: training regions from a map of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor

# Columns of a row of the second bottom.
_COLUMNS = 18
_IMAGE, _OWN, _MAPPED, _CLASS, _SUBCLASS, _TARGETS = 2, 2, 7, 12, 13, 14


@dataclass(frozen=True)
class _Pyramid:
    """The third bottom: scales of an image, the scale that each maps to, and anchors in cells."""

    scales: Tensor
    mapping: Tensor
    heights: Tensor
    widths: Tensor

    @classmethod
    def of(cls, layer: Layer, numbers: Tensor) -> _Pyramid:
        values = numbers.detach().flatten()
        layer.check(len(values) >= 2, "its third bottom needs the numbers of scales and aspects")
        scales, aspects = int(values[0]), int(values[1])
        layer.check(
            min(scales, aspects) > 0 and len(values) >= 2 + 2 * (scales + aspects),
            f"its third bottom has {len(values)} numbers; expected those of {scales} scales and "
            f"{aspects} aspects, the scales, their mapping, heights and widths",
        )
        found = values[2 : 2 + 2 * (scales + aspects)].split([scales, scales, aspects, aspects])
        return cls(*found)


@register("ROIGenerating", fork="SubCNN")
class ROIGenerating(Layer):
    """``batch_size`` regions: hard positives and hard negatives of the images of a pyramid.

    Bottoms: probabilities (S I, 1, H, W) of I images at S scales each; positives (P, 18) with rows
    [column, row, map, region (5), region at the mapped scale (5), class, subclass, targets (4)];
    and [S, A, S scales, S mapped scales, A heights, A widths]. Tops: regions (B, 5, 1, 1),
    subclasses (B, 1, 1, 1), targets, inside and outside weights (B, 4 ``num_classes``, 1, 1), and
    unless ``flag_proposal_only`` is 1 the regions at the mapped scale and the classes.

    Each image gets B / I regions, at most ``fg_fraction`` of them positives: of more, those with
    the lowest probability at their cell (-1 for a cell that an earlier one has). Negatives are the
    other cells with the highest probability, of equal ones the last, with class 0 and a random
    anchor of the A, centred at the cell and divided by ``spatial_scale``. Positives come first. The
    choice of anchors is a pure function of the seed and the pass. An image without positives gets
    negatives only, where the original counts wrongly. No gradients. Source:
    roi_generating_layer.cpp of SubCNN's Caffe.
    """

    bottoms = exactly(3)
    tops = between(5, 7)
    in_place = False
    differentiable = (False,)
    fork_fields = ("roi_generating_param",)
    batch_coupling = "selects regions from all images of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.roi_generating_param
        self.count, self.classes = int(p.batch_size), int(p.num_classes)
        self.share, self.scale = float(p.fg_fraction), float(p.spatial_scale)
        self.check(
            min(self.count, self.classes) > 0 and self.scale > 0,
            "roi_generating_param: batch_size, num_classes and spatial_scale must be positive",
        )
        self.all_tops = p.flag_proposal_only == 0
        wanted = 7 if self.all_tops else 5
        self.check(
            len(message.top) == wanted,
            f"it has {len(message.top)} tops, but flag_proposal_only {p.flag_proposal_only} gives "
            f"{wanted}",
        )

    def forward(self, maps: Tensor, positives: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        self._check_shapes(maps, positives)
        pyramid = _Pyramid.of(self, numbers)
        rows = positives.detach().reshape(positives.shape[0], _COLUMNS)
        scales = len(pyramid.scales)
        self.check(
            maps.shape[0] % scales == 0,
            f"it has {maps.shape[0]} maps, which is no multiple of {scales} scales",
        )
        chosen, cells = self._choices(maps.detach(), rows, scales)
        tops = list(self._empty(maps))
        self._put_positives(tops, rows[chosen])
        self._put_negatives(tops, cells, pyramid, maps, len(chosen))
        return tuple(tops)

    def infer(self, maps: Tensor, positives: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
        self._check_shapes(maps, positives)
        return self._empty(maps)

    def _empty(self, like: Tensor) -> tuple[Tensor, ...]:
        widths = [5, 1, *[4 * self.classes] * 3, 5, 1][: 7 if self.all_tops else 5]
        return tuple(like.new_zeros(self.count, width, 1, 1) for width in widths)

    def _choices(self, maps: Tensor, rows: Tensor, scales: int) -> tuple[Tensor, Tensor]:
        """The rows of positives, and the cells of negatives, numbers in the flattened maps."""
        import torch

        height, width = maps.shape[2:]
        probabilities = maps.flatten().clone()
        cells = (rows[:, _IMAGE].long() * height + rows[:, 1].long()) * width + rows[:, 0].long()
        self.check(
            not len(cells) or (int(cells.min()) >= 0 and int(cells.max()) < maps.numel()),
            "a row of its second bottom names a cell outside of the maps",
        )
        scores = []
        for cell in cells.tolist():
            scores.append(probabilities[cell].clone())
            probabilities[cell] = -1
        images = maps.shape[0] // scales
        each, per_image = self.count // images, scales * height * width
        most = int(self.share * each)
        owners = rows[:, _IMAGE].long() // scales
        chosen, negatives = [], []
        for image in range(images):
            own = (owners == image).nonzero().squeeze(1)
            if len(own) > most:
                order = torch.stack([scores[i] for i in own.tolist()]).sort(stable=True).indices
                own = own[order[:most]]
            chosen.append(own)
            part = probabilities[image * per_image : (image + 1) * per_image].flip(0)
            order = part.sort(descending=True, stable=True).indices[: each - len(own)]
            negatives.append((image + 1) * per_image - 1 - order)
        return torch.cat(chosen), torch.cat(negatives)

    def _put_positives(self, tops: list[Tensor], rows: Tensor) -> None:
        import torch

        count = len(rows)
        tops[0][:count, :, 0, 0] = rows[:, _OWN : _OWN + 5]
        tops[1][:count, 0, 0, 0] = rows[:, _SUBCLASS]
        classes = rows[:, _CLASS].long()
        self.check(
            not count or (int(classes.min()) >= 0 and int(classes.max()) < self.classes),
            f"a positive has a class outside 0 to {self.classes - 1}",
        )
        index = 4 * classes[:, None] + torch.arange(4, device=rows.device)
        targets = (rows[:, _TARGETS:], torch.ones_like(rows[:, :4]), torch.ones_like(rows[:, :4]))
        for top, values in zip(tops[2:5], targets, strict=True):
            top[:count, :, 0, 0] = top[:count, :, 0, 0].scatter(1, index, values)
        if self.all_tops:
            tops[5][:count, :, 0, 0] = rows[:, _MAPPED : _MAPPED + 5]
            tops[6][:count, 0, 0, 0] = rows[:, _CLASS]

    def _put_negatives(
        self, tops: list[Tensor], cells: Tensor, pyramid: _Pyramid, maps: Tensor, start: int
    ) -> None:
        import torch

        height, width = maps.shape[2:]
        number = cells // (height * width)
        place = cells % (height * width)
        x, y = (place % width).to(maps.dtype), (place // width).to(maps.dtype)
        bits = self.noise.bits(x.reshape(1, -1)).reshape(-1).long()
        anchor = (bits * len(pyramid.widths)) >> 31
        half = torch.stack([pyramid.widths[anchor], pyramid.heights[anchor]], 1) / 2
        centre = torch.stack([x, y], 1)
        boxes = torch.cat([centre - half, centre + half], 1) / self.scale
        rows = torch.cat([number[:, None].to(maps.dtype), boxes], 1)
        end = start + len(rows)
        tops[0][start:end, :, 0, 0] = rows
        if not self.all_tops:
            return
        scales = len(pyramid.scales)
        own = pyramid.scales[number % scales]
        reach = own / pyramid.scales[-1]
        inside = (x < width * reach) & (y < height * reach)
        mapped = torch.where(inside, pyramid.mapping[number % scales].long(), number % scales)
        tops[5][start:end, 0, 0, 0] = (number - number % scales + mapped).to(maps.dtype)
        factor = (pyramid.scales[mapped] / own)[:, None]
        tops[5][start:end, 1:, 0, 0] = boxes * factor

    def _check_shapes(self, maps: Tensor, positives: Tensor) -> None:
        self.check(
            maps.dim() == 4
            and maps.shape[1] == 1
            and positives.numel() == _COLUMNS * positives.shape[0],
            f"its bottoms are {format_shape(maps.shape)} and {format_shape(positives.shape)}; "
            f"expected maps N x 1 x H x W and positives P x {_COLUMNS}",
        )
