"""Lists of images with the bounding boxes of their objects, and the samples of BoxData layers.

A line of a list is ``name label xmin ymin xmax ymax``, separated by white space, with four further
numbers for each further object of that class. Names have no white space. Coordinates are whole
pixels of the image file, counted from 0; ``xmax`` and ``ymax`` are the last pixels in the box.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.counter_rng import pick_one
from caffecompat.data.sources.base import RawSample, Sample
from caffecompat.data.sources.image_lists.image_list import Entry, read_names
from caffecompat.data.sources.image_lists.image_samples import ImageSamples, ListSettings
from caffecompat.data.transforms.box_targets import LABEL_SHAPE, box_label
from caffecompat.data.transforms.transform import Augmentation, Transform
from caffecompat.errors import DataError
from caffecompat.reporting.progress import ProgressLines
from caffecompat.reporting.terminal import shorten

# A name, a label and the first box.
_FEWEST_WORDS = 6
_MAX_DIGITS = 6
_LINES_PER_REPORT = 1 << 14
_SHAPE_OF_A_LINE = "expected name label xmin ymin xmax ymax, and four more numbers for each object"


@dataclass(frozen=True, slots=True)
class BoxEntry:
    """One line of a box list.

    Attributes:
        name: the file name as listed.
        label: the class of the objects.
        corners: int32, (objects, 4): xmin, ymin, xmax, ymax in pixels; the last ones inclusive.
    """

    name: bytes
    label: int
    corners: NDArray[np.int32]


class BoxList:
    """The entries of a list, parsed on request: a line takes less memory than its numbers.

    Args:
        path: the list, for messages.
        lines: its lines.
    """

    def __init__(self, path: str, lines: Sequence[bytes]) -> None:
        self._path = path
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> BoxEntry:
        name, numbers = _parse(self._lines[index], self._path, index)
        return BoxEntry(name, numbers[0], np.array(numbers[1:], np.int32).reshape(-1, 4))

    def names(self) -> Iterator[tuple[bytes, int]]:
        """Name and label of each entry."""
        for line in self._lines:
            words = line.split(maxsplit=2)
            yield words[0], int(words[1])


def read_box_list(path: str, max_bytes: int | None = None, classes: int | None = None) -> BoxList:
    """The entries of a box list.

    Args:
        path: the list.
        max_bytes: the largest accepted size; None for 512 MiB.
        classes: refuse labels that are not below this; None accepts any.

    Raises:
        FileProblem, FormatError: the list cannot be read, or is larger than that.
        DataError: it is empty, or a line has another form or a label that is no class.
    """
    lines = [entry.name for entry in read_names(path, max_bytes)]
    if not lines:
        raise DataError(f"{path}: the list is empty; it needs at least one image")
    progress = ProgressLines("lines with boxes read")
    for index, line in enumerate(lines):
        if index % _LINES_PER_REPORT == 0:
            progress(index, len(lines))
        label = _parse(line, path, index)[1][0]
        if classes is not None and label >= classes:
            raise DataError(
                f"{path}: line {index + 1} has the label {label}, but there are {classes} "
                f"classes, 0 to {classes - 1}"
            )
    return BoxList(path, lines)


def _parse(line: bytes, path: str, index: int) -> tuple[bytes, list[int]]:
    """The name in a line, and its numbers: the label, then four for each box."""
    words = line.split()
    if len(words) < _FEWEST_WORDS or (len(words) - 2) % 4:
        raise DataError(f"{path}: line {index + 1} has {len(words)} words, {_SHAPE_OF_A_LINE}")
    texts = words[1:]
    if not all(map(bytes.isdigit, texts)) or max(map(len, texts)) > _MAX_DIGITS:
        wrong = next(word for word in texts if not word.isdigit() or len(word) > _MAX_DIGITS)
        shown = shorten(wrong.decode(errors="backslashreplace"), 40)
        raise DataError(
            f"{path}: line {index + 1}: {shown!r} is not a whole number from 0 to 999999; "
            f"{_SHAPE_OF_A_LINE} (names have no spaces)"
        )
    numbers = list(map(int, texts))
    for i in range(1, len(numbers), 4):
        if numbers[i] > numbers[i + 2] or numbers[i + 1] > numbers[i + 3]:
            raise DataError(
                f"{path}: line {index + 1}: a box ends before it begins; a box is xmin ymin xmax "
                "ymax, in pixels"
            )
    return words[0], numbers


def line_of(entry: BoxEntry) -> bytes:
    """The line of an entry, with its end."""
    return b" ".join([entry.name, b"%d" % entry.label, *(b"%d" % n for n in entry.corners.flat)])


def relative_boxes(entry: BoxEntry, height: int, width: int) -> NDArray[np.float64]:
    """The boxes of an image of ``height`` x ``width`` pixels.

    Returns:
        (objects, 4): x and y of the centre, width and height, as fractions of the image's width
        and height.

    Raises:
        DataError: a box is not in the image.
    """
    first = entry.corners[:, :2].astype(np.float64)
    last = entry.corners[:, 2:].astype(np.float64)
    size = np.array([width, height])
    # Some annotations have xmax = width, one pixel too far.
    if (first >= size).any() or (last > size).any():
        raise DataError(
            f"a box reaches to pixel {int(last[:, 0].max())}, {int(last[:, 1].max())} (x, y), but "
            f"the image is {width} wide and {height} high; boxes are in pixels of the image file, "
            "so give the images that were annotated, or scale the boxes with them"
        )
    start, end = first / size, np.minimum((last + 1) / size, 1)
    return np.concatenate([(start + end) / 2, end - start], 1)


@dataclass(frozen=True)
class BoxSample(Sample):
    """An image with one of its boxes, relative to the image."""

    box: NDArray[np.float64]


class BoxSamples(ImageSamples):
    """The images of a box list; one of several boxes is drawn each time an image is used.

    Which one depends only on (seed, ordinal).

    Args:
        path: the list, for messages.
        entries: its entries.
        transform: what happens to the image, and to its box with it.
        taken: how the entries are taken; its seed is that of drawing, too.
    """

    label_shape = LABEL_SHAPE

    def __init__(
        self, path: str, entries: BoxList, transform: Transform, taken: ListSettings
    ) -> None:
        names = [Entry(name, label) for name, label in entries.names()]
        super().__init__(path, names, taken)
        self._boxes = entries
        self._transform = transform

    def decode(self, raw: RawSample) -> BoxSample:
        sample = super().decode(raw)
        boxes = relative_boxes(self._boxes[raw.position], *sample.shape[1:])
        chosen = pick_one(self._taken.seed, raw.ordinal, "box", len(boxes))
        return BoxSample(sample.pixels, sample.label, boxes[chosen])

    def label(self, sample: Sample, augmentation: Augmentation) -> NDArray[np.float32]:
        assert isinstance(sample, BoxSample)
        place = self._transform.place(sample.shape, augmentation)
        return box_label(sample.box, sample.label, place, augmentation.mirror)


def image_path(root: str, entry: BoxEntry) -> bytes:
    """The file of an entry, where the names are below the folder ``root``."""
    return os.path.join(os.fsencode(root), entry.name)
