"""Lists of images with the boxes of objects and regions to ignore, of MS-CNN and Cascade R-CNN.

For each image a list has ``# index``, the file name (without blanks), channels, height, width, the
number of objects, for each ``label ignore x1 y1 x2 y2`` (in Cascade R-CNN ``label ignore difficult
x1 y1 x2 y2``), the number of regions to ignore, and ``x1 y1 x2 y2`` for each. Coordinates are whole
pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.sources.objects.marked_list import read_marked_list, shown
from caffecompat.errors import DataError
from caffecompat.input_files import ClaimedBytes

Floats = NDArray[np.float32]

_NUMBER = re.compile(rb"-?\d{1,9}")
# A lower bound of the memory of a box.
_BYTES_PER_BOX = 40
_FORM = (
    "expected # index, the file name, channels, height, width, the number of objects and {} "
    "numbers for each, the number of ignored regions and four numbers for each"
)


@dataclass(frozen=True)
class RegionImage:
    """An image of a list.

    Attributes:
        name: the file name as listed.
        height, width: the size in the list.
        boxes: float32 (G, 4): x1, y1, x2, y2.
        labels: int64 (G), from 1 on.
        ignored, difficult: bool (G).
        regions: float32 (R, 4), the regions to ignore.
    """

    name: bytes
    height: int
    width: int
    boxes: Floats
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    regions: Floats


def read_region_list(
    path: str, with_difficult: bool, max_bytes: int | None = None
) -> list[RegionImage]:
    """The images of a list.

    Args:
        path: the list.
        with_difficult: whether objects have the number ``difficult``.
        max_bytes: the largest accepted size; None for 512 MiB.

    Raises:
        FileProblem, FormatError: the list cannot be read, or is larger than that.
        DataError: it is empty or has another form; the message names the image.
    """
    images: list[RegionImage] = []
    columns = 7 if with_difficult else 6

    def read_image(name: bytes, words: Iterator[bytes], claimed: ClaimedBytes) -> None:
        _, height, width = _numbers(words, 3)
        objects = _boxes(words, columns, claimed)
        regions = _boxes(words, 4, claimed)
        images.append(_image(name, (height, width), objects, regions))

    remedy = "expected the numbers of each box"
    read_marked_list(path, read_image, remedy, _FORM.format(columns), max_bytes)
    if not images:
        raise DataError(f"{path}: the list is empty; it needs at least one image")
    return images


def _image(
    name: bytes, size: tuple[int, int], objects: NDArray[np.int64], regions: NDArray[np.int64]
) -> RegionImage:
    if (objects[:, 0] < 1).any():
        raise ValueError(f"an object has the label {objects[:, 0].min()}, expected 1 or more")
    ignored = objects[:, 1] != 0
    difficult = objects[:, 2] != 0 if objects.shape[1] == 7 else np.zeros(len(objects), bool)
    boxes = objects[:, -4:].astype(np.float32)
    return RegionImage(
        name, *size, boxes, objects[:, 0], ignored, difficult, regions.astype(np.float32)
    )


def _boxes(words: Iterator[bytes], columns: int, claimed: ClaimedBytes) -> NDArray[np.int64]:
    (count,) = _numbers(words, 1)
    if count < 0:
        raise ValueError(f"a number of boxes is {count}")
    rows = []
    for _ in range(count):
        rows.append(_numbers(words, columns))
        claimed.add(_BYTES_PER_BOX, "its boxes")
        x1, y1, x2, y2 = rows[-1][-4:]
        if x2 < x1 or y2 < y1:
            raise ValueError(f"the box {x1} {y1} {x2} {y2} ends before it begins")
    return np.array(rows, np.int64).reshape(-1, columns)


def _numbers(words: Iterator[bytes], count: int) -> list[int]:
    found = []
    for _ in range(count):
        word = next(words)
        if not _NUMBER.fullmatch(word):
            raise ValueError(f"found {shown(word)!r}, expected a whole number")
        found.append(int(word))
    return found
