"""Images with boxes, rescaled at random and cut or centred to a size (MS-CNN, Cascade R-CNN).

Source of the semantics: image_gt_data_layer.cpp and detection_data_layer.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels, resize_image
from caffecompat.data.rounding import round_away
from caffecompat.data.sample_choices import SampleChoices

Floats = NDArray[np.float32]

# Larger factors cut the image to 1.2 times the needed part before it is enlarged.
_ENLARGED, _MARGIN = 1.5, 1.2
_NOISE = 10


@dataclass(frozen=True)
class Regions:
    """An image with boxes that move with it.

    Attributes:
        pixels: height x width x 3.
        boxes: float32 (G, 4), x1, y1, x2, y2 of objects.
        ignored: the same of regions to ignore.
    """

    pixels: Pixels
    boxes: Floats
    ignored: Floats

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def moved(
        self, pixels: Pixels, factors: tuple[float, float], shift: tuple[int, int]
    ) -> Regions:
        """Other pixels, and boxes multiplied and then shifted; both (down, right)."""
        times = np.array(factors[::-1] * 2, np.float32)
        more = np.array(shift[::-1] * 2, np.float32)
        return Regions(pixels, self.boxes * times + more, self.ignored * times + more)

    def mirrored(self) -> Regions:
        """Flipped left to right; x becomes width - x."""
        width = np.float32(self.pixels.shape[1])
        boxes, ignored = (b.copy() for b in (self.boxes, self.ignored))
        for found in (boxes, ignored):
            found[:, [0, 2]] = width - found[:, [2, 0]]
        return Regions(np.ascontiguousarray(self.pixels[:, ::-1]), boxes, ignored)

    def resized(self, height: int, width: int) -> Regions:
        """Resized bilinearly, with its boxes."""
        if (height, width) == self.size:
            return self
        factors = (
            float(np.float32(height) / np.float32(self.size[0])),
            float(np.float32(width) / np.float32(self.size[1])),
        )
        return self.moved(resize_image(self.pixels, width=width, height=height), factors, (0, 0))


@dataclass(frozen=True)
class Placed:
    """An image in a canvas.

    Attributes:
        regions: the canvas' pixels, 0 beside the image, and boxes in it.
        start, extent: row and column where the image begins, and its size there.
    """

    regions: Regions
    start: tuple[int, int]
    extent: tuple[int, int]


def chosen_centre(
    regions: Regions, canvas: tuple[int, int], choices: SampleChoices
) -> tuple[int | None, tuple[float, float]]:
    """A random object, None without one, and the row and column around which to cut."""
    if len(regions.boxes):
        chosen = choices.pick("object", len(regions.boxes))
        x1, y1, x2, y2 = (float(v) for v in regions.boxes[chosen])
        return chosen, ((y1 + y2) / 2, (x1 + x2) / 2)
    centre = []
    for axis, purpose in enumerate(("centre row", "centre column")):
        extent, wanted = regions.size[axis], canvas[axis]
        if extent < wanted:
            centre.append(extent / 2)
        else:
            centre.append(choices.pick(purpose, extent - wanted + 1) + wanted / 2)
    return None, (centre[0], centre[1])


def placed(
    regions: Regions,
    canvas: tuple[int, int],
    factors: tuple[float, float],
    centre: tuple[float, float],
    choices: SampleChoices,
) -> Placed:
    """The image multiplied by ``factors`` (down, right) and put into a canvas (height, width).

    A larger one is cut around ``centre``, a smaller one is put into the middle, both moved by up to
    ten pixels at random.
    """
    if factors != (1.0, 1.0):
        if max(factors) > _ENLARGED:
            regions, centre = _needed_part(regions, factors, centre)
        size = [max(round_away(e * f), 1) for e, f in zip(regions.size, factors, strict=True)]
        pixels = resize_image(regions.pixels, width=size[1], height=size[0])
        regions = regions.moved(pixels, factors, (0, 0))
    starts, cuts, extents = [], [], []
    for axis, purpose in enumerate(("noise row", "noise column")):
        noise = choices.pick(purpose, 2 * _NOISE) - _NOISE
        room = canvas[axis] - regions.size[axis]
        start = min(max(round_away(room / 2) + noise, 0), room) if room > 0 else 0
        at = round_away(centre[axis] * factors[axis]) + noise - round_away(canvas[axis] / 2)
        starts.append(start)
        cuts.append(min(max(at, 0), -room) if room < 0 else 0)
        extents.append(min(regions.size[axis], canvas[axis]))
    target = np.zeros((*canvas, regions.pixels.shape[2]), regions.pixels.dtype)
    rows, columns = (slice(s, s + e) for s, e in zip(starts, extents, strict=True))
    from_rows, from_columns = (slice(c, c + e) for c, e in zip(cuts, extents, strict=True))
    target[rows, columns] = regions.pixels[from_rows, from_columns]
    shift = (starts[0] - cuts[0], starts[1] - cuts[1])
    return Placed(
        regions.moved(target, (1.0, 1.0), shift),
        (starts[0], starts[1]),
        (extents[0], extents[1]),
    )


def _needed_part(
    regions: Regions, factors: tuple[float, float], centre: tuple[float, float]
) -> tuple[Regions, tuple[float, float]]:
    """The part of an image around a centre that is enlarged, and the centre in it."""
    starts, ends = [], []
    for extent, factor, middle in zip(regions.size, factors, centre, strict=True):
        length = min(max(round_away(_MARGIN * extent / factor), 1), extent)
        start = max(round_away(middle - length * 0.5), 0)
        start -= max(start + length - extent, 0)
        starts.append(start)
        ends.append(start + length)
    part = np.ascontiguousarray(regions.pixels[starts[0] : ends[0], starts[1] : ends[1]])
    moved = regions.moved(part, (1.0, 1.0), (-starts[0], -starts[1]))
    return moved, (centre[0] - starts[0], centre[1] - starts[1])
