"""The images of a PASCAL VOC data set with the classes of an image set, and persons' boxes.

A set lies in ``ImageSets/<task>/``. Each class has a file ``<class>_<set>.txt`` there. In ``Main``
its lines are ``image flag``; in ``Action`` they are ``image object flag``, where the object is the
place of a person in the image's annotation, counted from 1. A flag is 1 for a member of the class,
-1 for the others, 0 for what does not count.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffecompat.data.codec.images import read_pixels
from caffecompat.data.tools.voc_boxes import box_corners, parse_xml
from caffecompat.errors import DataError, FileProblem
from caffecompat.evaluate.images.labelled_images import (
    ImageOptions,
    LabelledImage,
    LabelledImages,
    PixelBox,
)
from caffecompat.input_files import MEBIBYTE, read_input
from caffecompat.reporting.terminal import short_name

PERSON_TASK = "Action"
_MAX_ANNOTATION_BYTES = 4 * MEBIBYTE
_FLAGS = {"-1": -1, "0": 0, "1": 1, "+1": 1}


@dataclass(frozen=True)
class _Row:
    """One image of a set, or one person in it.

    Attributes:
        image: the name of the image, without a suffix.
        person: the place of its box in the annotation, counted from 1; 0 for the whole image.
    """

    image: str
    person: int = 0


class VocImages(LabelledImages):
    """An image set of PASCAL VOC; of the task Action each person is one image with a box.

    Args:
        folder: of one year, with ``ImageSets``, ``JPEGImages`` and ``Annotations``.
        image_set: task and set, ``"Main/trainval"`` or ``"Action/train"``.
        options: how the images are decoded.

    Raises:
        FileProblem, FormatError: a file cannot be read.
        DataError: the set has no files of classes, they do not fit together, or a line is wrong.
    """

    several_labels = True

    def __init__(self, folder: str, image_set: str, options: ImageOptions | None = None) -> None:
        self._folder = Path(folder)
        self._options = options or ImageOptions()
        self._task, slash, name = image_set.partition("/")
        if not slash or not self._task or not name or "/" in name:
            raise DataError(
                f"--voc {image_set}: expected a task and a set, e.g. Main/trainval or Action/train"
            )
        self.has_boxes = self._task == PERSON_TASK
        place = self._folder / "ImageSets" / self._task
        files = _class_files(place, name)
        super().__init__(str(place / f"{name}.txt"), list(files))
        self._rows: list[_Row] = []
        columns = [self._read_class(path) for path in files.values()]
        self._flags = list(zip(*columns, strict=True))
        if not self._rows:
            raise DataError(f"{self.path}: there are no images")

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> LabelledImage:
        row = self._rows[index]
        try:
            path = self._folder / "JPEGImages" / f"{row.image}.jpg"
            pixels = read_pixels(os.fsencode(path), self._options.colour)
            box = self._box(row, *pixels.shape[:2]) if row.person else None
        except DataError as error:
            raise DataError(f"{self.path}: image {row.image!r}: {error}") from error
        name = f"{row.image} {row.person}" if row.person else row.image
        return LabelledImage(name, None, pixels, self._flags[index], box)

    def close(self) -> None:
        """Does nothing: no file is open."""

    def _read_class(self, path: Path) -> list[int]:
        """The flags in the file of a class; the first file also says which images there are."""
        lines = read_input(path, self._options.max_bytes).decode(errors="surrogateescape")
        rows, flags = [], []
        for number, line in enumerate(lines.splitlines(), 1):
            words = line.split()
            if words:
                row, flag = self._parse(words, f"{path}: line {number}")
                rows.append(row)
                flags.append(flag)
        if not self._rows:
            self._rows = rows
        elif rows != self._rows:
            raise DataError(
                f"{path}: its {len(rows)} images are not the {len(self._rows)} of class "
                f"{self.class_names[0]!r}; all classes of a set list the same ones in one order"
            )
        return flags

    def _parse(self, words: Sequence[str], place: str) -> tuple[_Row, int]:
        expected = ["image", *(["object"] if self.has_boxes else []), "flag"]
        flag = _FLAGS.get(words[-1])
        numbers = words[1:-1]
        plain = all(n.isascii() and n.isdigit() and 0 < len(n) < 6 and int(n) for n in numbers)
        if len(words) != len(expected) or flag is None or not plain:
            raise DataError(
                f"{place} is {short_name(' '.join(words))!r}, expected: {' '.join(expected)} "
                "(a flag is 1, -1 or 0; objects are counted from 1)"
            )
        return _Row(words[0], int(numbers[0]) if numbers else 0), flag

    def _box(self, row: _Row, height: int, width: int) -> PixelBox:
        path = str(self._folder / "Annotations" / f"{row.image}.xml")
        limit = self._options.max_bytes or _MAX_ANNOTATION_BYTES
        objects = parse_xml(path, read_input(path, limit)).findall("object")
        if row.person > len(objects):
            raise DataError(f"{path}: it has {len(objects)} objects, the set names {row.person}")
        box = objects[row.person - 1].find("bndbox")
        if box is None:
            raise DataError(f"{path}: object {row.person} has no bndbox")
        left, top, right, bottom = box_corners(box, path, one_based=True)
        if right >= width or bottom >= height:
            raise DataError(
                f"{path}: the box of object {row.person} ends at pixel {right + 1}, {bottom + 1} "
                f"(x, y), but the image is {width} wide and {height} high"
            )
        return PixelBox(top, left, bottom + 1, right + 1)


def _class_files(place: Path, image_set: str) -> dict[str, Path]:
    """The files of a set by the names of their classes, which are in alphabetical order."""
    ending = f"_{image_set}.txt"
    try:
        names = sorted(name for name in os.listdir(place) if name.endswith(ending))
    except OSError as error:
        raise FileProblem(f"{place}: the folder cannot be read: {error.strerror}") from error
    if not names:
        raise DataError(
            f"{place}: there are no files <class>{ending}, which say the classes of the images of "
            f"{image_set!r} (PASCAL VOC publishes none for test sets from 2010 on)"
        )
    return {name.removesuffix(ending): place / name for name in names}
