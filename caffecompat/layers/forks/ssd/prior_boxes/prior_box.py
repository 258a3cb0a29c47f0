"""PriorBox: the prior boxes (anchors) of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks._other_fields import refuse_other_fields
from caffecompat.layers.forks.ssd.prior_boxes._prior_grid import (
    GRID_FIELDS,
    BoxSize,
    PriorGrid,
    rounded,
)

_SAME = 1e-6
_OF_FACEBOXES = [32, 64, 128]
# In FaceBoxes' Caffe: boxes per side, and their distance in pixels, by the size of a box.
_DENSE = {32: (4, 8), 64: (2, 16)}


@register("PriorBox", fork="SSD, FaceBoxes, TextBoxes++")
class PriorBox(PriorGrid):
    """Boxes of several sizes and aspect ratios at each position of a feature map.

    Bottoms: a feature map (N, C, H, W) and the image. Top: (1, 2, 4 * H * W * boxes), see
    :class:`PriorGrid`. For each ``min_size``: a square of that side; with ``max_size`` a square of
    side sqrt(min_size * max_size); and for each aspect ratio r other than 1, and with ``flip`` for
    1 / r, a box of min_size * sqrt(r) by min_size / sqrt(r). Sizes are truncated to whole pixels.
    The centre of position (i, j) is (offset + i) * step. With TextBoxes++'s ``denser_prior_boxes``
    a second box of the same size follows each, with its centre at (i + 1) * step from the top.
    Source: the PriorBox layers of SSD and TextBoxes++.

    With the dialect ``faceboxes`` the squares of ``min_size`` are one pixel smaller, and at each
    position there are 16 of 32 pixels, 8 pixels apart, and 4 of 64 pixels, 16 pixels apart.
    Source: FaceBoxes' PriorBox layer, whose definitions have no field of their own.
    """

    dialects = ("faceboxes",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.prior_box_param
        known = (*GRID_FIELDS, "min_size", "max_size", "aspect_ratio", "flip", "denser_prior_boxes")
        refuse_other_fields(self, "prior_box_param", p, known)
        self.read_grid(message, bottoms)
        smallest, largest = list(p.min_size), list(p.max_size)
        self.check(bool(smallest), "prior_box_param has no min_size; give at least one")
        self.check(
            min(smallest) > 0,
            f"prior_box_param: min_size is {min(smallest):g}, expected a positive number",
        )
        self.check(
            len(largest) in (0, len(smallest)),
            f"prior_box_param has {len(smallest)} min_size and {len(largest)} max_size; give one "
            "max_size for each min_size, or none",
        )
        for low, high in zip(smallest, largest, strict=False):
            self.check(
                high > low,
                f"prior_box_param: max_size {high:g} must be greater than its min_size {low:g}",
            )
        ratios = self._ratios(p)
        if self.context.options.dialect.lower() in self.dialects:
            self.check(
                not ratios and not largest,
                "prior_box_param has aspect_ratio or max_size, which FaceBoxes' nets do not have; "
                "remove them, or state another dialect",
            )
            self.boxes = [box for size in smallest for box in _dense_boxes(int(size))]
            return
        if smallest == _OF_FACEBOXES and not ratios and not largest:
            self.note(
                "one box for each min_size; for a net of FaceBoxes, which has 21 boxes here, state "
                "dialect='faceboxes' (--dialect faceboxes)"
            )
        self.boxes = [
            box
            for i, size in enumerate(smallest)
            for box in _boxes(int(size), int(largest[i]) if largest else None, ratios)
        ]
        if p.denser_prior_boxes:
            self.boxes = [one for box in self.boxes for one in (box, _below(box))]

    def _ratios(self, p: Message) -> list[float]:
        """The aspect ratios other than 1, without repetitions."""
        self.check(
            all(ratio > 0 for ratio in p.aspect_ratio),
            f"prior_box_param: aspect_ratio is {min(p.aspect_ratio, default=0):g}, expected "
            "positive numbers",
        )
        ratios = [1.0]
        for ratio in p.aspect_ratio:
            if all(abs(ratio - known) >= _SAME for known in ratios):
                ratios += [ratio, float(np.float32(1 / ratio))] if p.flip else [ratio]
        return [ratio for ratio in ratios if abs(ratio - 1) >= _SAME]


def _boxes(size: int, largest: int | None, ratios: Sequence[float]) -> list[BoxSize]:
    """The boxes of one ``min_size``, in SSD's order."""
    squares = [float(size)] + ([] if largest is None else [rounded(sqrt(size * largest))])
    return [
        *(BoxSize(side, side) for side in squares),
        *(BoxSize(rounded(size * sqrt(r)), rounded(size / sqrt(r))) for r in ratios),
    ]


def _below(box: BoxSize) -> BoxSize:
    return replace(box, at_lower_edge=True)


def _dense_boxes(size: int) -> list[BoxSize]:
    """FaceBoxes' boxes of one size."""
    count, distance = _DENSE.get(size, (1, 0))
    places = [(i - count // 2) * distance for i in range(count)]
    return [BoxSize(size - 1, size - 1, x, y) for y in places for x in places]
