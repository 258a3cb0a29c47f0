"""Images with labels: a folder of one sub-folder per class, an image list, or a database."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffecompat.data.backends.database import Database, guess_backend, open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import Colour, Pixels, read_pixels
from caffecompat.data.sources.image_lists.image_list import (
    Entry,
    images_below,
    read_list,
    read_names,
    read_tree,
)
from caffecompat.errors import DataError


@dataclass(frozen=True)
class PixelBox:
    """A part of an image, in pixels: its first row and column, and those behind its last ones."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class LabelledImage:
    """One decoded image.

    Attributes:
        name: its file name, or the key of its record.
        label: its class; None without one.
        pixels: uint8, height x width x 3 in B, G, R order, or height x width for a gray one.
        flags: of images with several classes, one per class: 1 for its classes, -1 for the
            others, 0 for those that do not count; empty for images with one label.
        box: of the object that the labels are about; None for the whole image.
    """

    name: str
    label: int | None
    pixels: Pixels
    flags: tuple[int, ...] = ()
    box: PixelBox | None = None

    def in_box(self) -> Pixels:
        """The pixels in the box."""
        assert self.box is not None
        rows, columns = slice(self.box.top, self.box.bottom), slice(self.box.left, self.box.right)
        return np.ascontiguousarray(self.pixels[rows, columns])


class LabelledImages(ABC):
    """Images by index; several threads may read.

    Attributes:
        path: of the folder, list or database, for messages.
        class_names: the names of the classes by label; empty if they are not known.
        has_boxes: each image has a box.
        several_labels: an image has a flag for each class in place of one label.
    """

    has_boxes = False
    several_labels = False

    def __init__(self, path: str, class_names: list[str] | None = None) -> None:
        self.path = path
        self.class_names = class_names or []

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def read(self, index: int) -> LabelledImage:
        """Image ``index``.

        Raises:
            DataError: it cannot be read or decoded; the message names it.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the files."""


@dataclass(frozen=True)
class ImageOptions:
    """How images are found and decoded.

    Attributes:
        root: the folder of the names in a list; a list's own folder if empty.
        gray: decode to one channel.
        labelled: whether the images have labels.
        max_bytes: the largest image list to read; None for the reader's own limit.
    """

    root: str = ""
    gray: bool = False
    labelled: bool = True
    max_bytes: int | None = None

    @property
    def colour(self) -> Colour:
        return "gray" if self.gray else "color"


def open_images(path: str, options: ImageOptions | None = None) -> LabelledImages:
    """The images at ``path``.

    Args:
        path: a database folder, a folder with one sub-folder per class (without labels: a folder
            tree of images), or an image list.
        options: see :class:`ImageOptions`.

    Raises:
        FileProblem, FormatError: the path cannot be read.
        DataError: there are no images, or lines of the list have no labels.
    """
    options = options or ImageOptions()
    backend = guess_backend(path) if os.path.isdir(path) else None
    images: LabelledImages
    if backend is not None:
        images = DatabaseImages(open_database(path, backend), options)
    elif os.path.isdir(path) and not options.labelled:
        entries = [Entry(name, 0) for name in images_below(os.fsencode(path))]
        images = ImageFiles(path, entries, path, options)
    elif os.path.isdir(path):
        entries, names = read_tree(path)
        images = ImageFiles(path, entries, path, options, names)
    else:
        if options.labelled:
            entries = read_list(path, each=True, max_bytes=options.max_bytes)
        else:
            entries = read_names(path, max_bytes=options.max_bytes)
        root = options.root or os.path.dirname(path)
        images = ImageFiles(path, entries, root, options)
    if not len(images):
        images.close()
        raise DataError(f"{path}: there are no images")
    return images


def files_by_name(names: Sequence[str], options: ImageOptions) -> LabelledImages:
    """Image files, given by their paths."""
    entries = [Entry(os.fsencode(name), 0) for name in names]
    return ImageFiles("command line", entries, "", options)


class ImageFiles(LabelledImages):
    """Image files by name.

    Args:
        path: the list or folder that names them.
        entries: names and labels.
        root: the folder of the names.
        options: how they are decoded.
        class_names: by label.
    """

    def __init__(
        self,
        path: str,
        entries: list[Entry],
        root: str,
        options: ImageOptions,
        class_names: list[str] | None = None,
    ) -> None:
        super().__init__(path, class_names)
        self._entries = entries
        self._root = os.fsencode(root)
        self._options = options

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, index: int) -> LabelledImage:
        entry = self._entries[index]
        name = os.fsdecode(entry.name)
        try:
            path = os.path.join(self._root, entry.name)
            pixels = read_pixels(path, self._options.colour)
        except DataError as error:
            raise DataError(f"{self.path}: image {index + 1}, {name!r}: {error}") from error
        return LabelledImage(name, entry.label if self._options.labelled else None, pixels)

    def close(self) -> None:
        """Does nothing: no file is open."""


class DatabaseImages(LabelledImages):
    """The records of an LMDB or LevelDB.

    Args:
        database: open; :meth:`close` closes it.
        options: how encoded records are decoded.
    """

    def __init__(self, database: Database, options: ImageOptions) -> None:
        super().__init__(database.path)
        self._database = database
        self._options = options

    def __len__(self) -> int:
        return len(self._database)

    def read(self, index: int) -> LabelledImage:
        key, value = self._database.read(index)
        name = key.decode(errors="backslashreplace")
        gray = self._options.gray
        try:
            datum = parse_datum(value)
            if self._options.labelled and not datum.HasField("label"):
                raise DataError("it has no label; for images without labels give: --no-labels")
            planes = decode_datum(datum, force_color=not gray, force_gray=gray)
            pixels = _interleaved(planes, gray)
        except DataError as error:
            raise DataError(f"{self.path}: record {index + 1} (key {name!r}): {error}") from error
        return LabelledImage(name, int(datum.label) if self._options.labelled else None, pixels)

    def close(self) -> None:
        self._database.close()


def _interleaved(planes: np.ndarray, gray: bool) -> Pixels:
    """Channels x height x width as height x width [x 3]."""
    channels = 1 if gray else 3
    if planes.dtype != np.uint8 or len(planes) != channels:
        raise DataError(
            f"it has {len(planes)} channels of {planes.dtype}, the net takes images with "
            f"{channels} of uint8"
        )
    return planes[0] if gray else np.ascontiguousarray(planes.transpose(1, 2, 0))
