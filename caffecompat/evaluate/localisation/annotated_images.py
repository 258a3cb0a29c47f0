"""Images with the boxes of their objects."""

from __future__ import annotations

import os
from dataclasses import dataclass

from caffecompat.data.codec.images import Pixels, read_pixels
from caffecompat.data.sources.objects.box_list import (
    image_path,
    read_box_list,
    relative_boxes,
)
from caffecompat.errors import DataError
from caffecompat.evaluate.localisation.localisation_error import Truth


@dataclass(frozen=True)
class AnnotatedImage:
    """One decoded image.

    Attributes:
        name: its file name in the list.
        pixels: uint8, height x width x 3 in B, G, R order, or height x width for a gray one.
        truth: its class and the boxes of its objects.
    """

    name: str
    pixels: Pixels
    truth: Truth


class AnnotatedImages:
    """The images of a box list by index; several threads may read.

    Args:
        path: a box list, see :mod:`caffecompat.data.sources.objects.box_list`.
        root: the folder of the names in it; empty for the list's own folder.
        gray: decode to one channel.
        max_bytes: the largest list to read.

    Raises:
        FileProblem, FormatError, DataError: the list cannot be used.
    """

    def __init__(
        self, path: str, root: str = "", gray: bool = False, max_bytes: int | None = None
    ) -> None:
        self.path = path
        self.entries = read_box_list(path, max_bytes)
        self._root = root or os.path.dirname(path)
        self._gray = gray

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: int) -> AnnotatedImage:
        """Image ``index``.

        Raises:
            DataError: it cannot be read or decoded, or a box is not in it; the message names it.
        """
        entry = self.entries[index]
        name = entry.name.decode(errors="surrogateescape")
        try:
            path = image_path(self._root, entry)
            pixels = read_pixels(path, "gray" if self._gray else "color")
            boxes = relative_boxes(entry, *pixels.shape[:2])
        except DataError as error:
            raise DataError(f"{self.path}: line {index + 1}, image {name!r}: {error}") from error
        return AnnotatedImage(name, pixels, Truth(entry.label, boxes))
