"""Images with the boxes of their objects, as Fast R-CNN prepares them for a detector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import read_pixels, scale_image
from caffecompat.data.codec.pixel_operations import resize_by
from caffecompat.data.sources.objects.box_list import read_box_list
from caffecompat.errors import DataError


@dataclass(frozen=True)
class ObjectImage:
    """An image file and its objects.

    Attributes:
        path: the file.
        boxes: float32 (G, 4): x1, y1, x2, y2 in pixels; the last ones are in the box.
        classes: int64 (G), from 1 on; 0 is the background.
        mirrored: whether the image is used flipped left to right; ``boxes`` are those before.
    """

    path: bytes
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    mirrored: bool = False


@dataclass(frozen=True)
class Preparation:
    """What happens to an image.

    Attributes:
        means: B, G and R, which are subtracted.
        side: the length of the shorter side in pixels.
        longest: the largest length of the longer side, which may make the shorter one shorter.
        multiple: PVANet: both sides are cut to multiples of it; 0 for none.
    """

    means: tuple[float, ...]
    side: int
    longest: int
    multiple: int = 0

    def scale(self, height: int, width: int) -> float:
        """The factor for an image of this size."""
        factor = self.side / min(height, width)
        if round(factor * max(height, width)) > self.longest:
            factor = self.longest / max(height, width)
        return factor

    def cut(self, height: int, width: int) -> tuple[int, int]:
        """The height and width of a scaled image with ``multiple``.

        Raises:
            DataError: a side would have no pixel.
        """
        factor = self.scale(height, width)
        sides = [int(side * factor // self.multiple) * self.multiple for side in (height, width)]
        if min(sides) == 0:
            raise DataError(
                f"an image of {width} x {height} is scaled to sides below {self.multiple} pixels, "
                "of which they must be multiples; scale images to a larger size: by SCALES and "
                "MAX_SIZE of a RoIDataLayer, by --min-side and --max-side of detect"
            )
        return sides[0], sides[1]


def read_object_list(
    path: str, root: str, classes: int, max_bytes: int | None = None
) -> list[ObjectImage]:
    """The images of a box list in the order of their first lines; an image may have several lines.

    The label k of the list becomes the class k + 1.

    Args:
        path: the list, see :mod:`caffecompat.data.sources.objects.box_list`.
        root: the prefix of each name, with a slash.
        classes: the number of classes without the background.
        max_bytes: the largest accepted size; None for 512 MiB.

    Raises:
        FileProblem, FormatError, DataError: the list cannot be read or is none.
    """
    entries = read_box_list(path, max_bytes, classes)
    found: dict[bytes, list[tuple[int, NDArray[np.int32]]]] = {}
    for index in range(len(entries)):
        entry = entries[index]
        found.setdefault(entry.name, []).append((entry.label + 1, entry.corners))
    return [
        ObjectImage(
            os.fsencode(root) + name,
            np.concatenate([corners for _, corners in lines]).astype(np.float32),
            np.concatenate([np.full(len(corners), label) for label, corners in lines]),
        )
        for name, lines in found.items()
    ]


def prepared(
    image: ObjectImage, preparation: Preparation
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The blobs of one image: pixels (1, 3, H, W), [[H, W, scale]], and objects (G, 5).

    With ``multiple`` the second is [[H, W, x scale, y scale, x scale, y scale]]. Rows of objects
    are [x1, y1, x2, y2, class] in pixels of the scaled image.

    Raises:
        DataError: the file is no image, or a box is not in it.
    """
    name = os.fsdecode(image.path)
    try:
        pixels = read_pixels(image.path, "color")
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    height, width = pixels.shape[:2]
    boxes = image.boxes.copy()
    if len(boxes) and (boxes[:, 2].max() > width or boxes[:, 3].max() > height):
        raise DataError(
            f"{name}: a box reaches to pixel {boxes[:, 2].max():g}, {boxes[:, 3].max():g} (x, y), "
            f"but the image is {width} wide and {height} high"
        )
    if image.mirrored:
        pixels = pixels[:, ::-1]
        boxes[:, [0, 2]] = width - 1 - boxes[:, [2, 0]]
    shifted: Any = pixels.astype(np.float32) - np.asarray(preparation.means, np.float32)
    factor = preparation.scale(height, width)
    factors: tuple[float, ...] = (factor,)
    if preparation.multiple:
        size = preparation.cut(height, width)
        factors = (size[1] / width, size[0] / height) * 2
        scaled = resize_by(shifted, *size, "LINEAR").transpose(2, 0, 1)[None]
    else:
        scaled = scale_image(shifted, factor).transpose(2, 0, 1)[None]
    facts = np.array([[*scaled.shape[2:], *factors]], np.float32)
    rows = np.concatenate([boxes * np.asarray(factors, np.float32), image.classes[:, None]], 1)
    return np.ascontiguousarray(scaled, np.float32), facts, rows.astype(np.float32)


def with_mirrored(images: Sequence[ObjectImage]) -> list[ObjectImage]:
    """The images, followed by all of them flipped."""
    flipped = [ObjectImage(one.path, one.boxes, one.classes, not one.mirrored) for one in images]
    return [*images, *flipped]
