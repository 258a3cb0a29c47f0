"""The files with detections that DetectionOutput writes for ``save_output_param``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.image_sizes import read_image_sizes
from caffecompat.data.label_map import read_label_map
from caffecompat.errors import DataError, FileProblem
from caffecompat.layers._base import Message
from caffecompat.layers.forks.ssd.detections._pixels import to_pixels
from caffecompat.output_files import atomic_write

FORMATS = ("VOC", "COCO", "ILSVRC")
SAVE_FIELDS = (
    *("output_directory", "output_name_prefix", "output_format", "label_map_file"),
    *("name_size_file", "num_test_image", "resize_param"),
)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class DetectionFiles:
    """Collects the detections of the images of a test and writes them when it is complete.

    VOC: ``<prefix><class>.txt`` for each class, lines ``image score xmin ymin xmax ymax``. COCO:
    ``<prefix>.json``. ILSVRC: ``<prefix>.txt``, lines ``image label score xmin ymin xmax ymax``.
    Image k of a test is line k of ``name_size_file``; a test has ``num_test_image`` images.

    Args:
        p: a SaveOutputParameter with a directory, a label map and a ``name_size_file``.
        background: the class without a file.
        max_bytes: the largest file to read; None for the limit of each kind.

    Raises:
        FileProblem, FormatError, TextError, DataError: the directory cannot be made, a file cannot
            be read, or a name would lead out of the directory.
    """

    def __init__(self, p: Message, background: int, max_bytes: int | None = None) -> None:
        self._names = read_label_map(p.label_map_file, max_bytes).names
        self._images = read_image_sizes(p.name_size_file, max_bytes)
        self._count = p.num_test_image if p.HasField("num_test_image") else len(self._images)
        self._format, self._prefix = p.output_format, p.output_name_prefix
        self._background = background
        self._resize = p.resize_param if p.HasField("resize_param") else None
        self._found: list[tuple[str, int, float, list[float]]] = []
        self._seen = 0
        self._directory = p.output_directory
        if not 0 < self._count <= len(self._images):
            raise DataError(
                f"{p.name_size_file}: it has {len(self._images)} lines, but num_test_image is "
                f"{self._count}"
            )
        for name in (self._prefix, *self._names.values()):
            if os.path.basename(name) != name or "\0" in name:
                raise DataError(
                    f"save_output_param: {name!r} is part of a file name and must not contain '/'; "
                    "put folders into output_directory"
                )
        try:
            os.makedirs(self._directory, exist_ok=True)
        except OSError as error:
            raise FileProblem(
                f"{self._directory}: the folder cannot be made: {error.strerror}"
            ) from error

    def add(self, rows: NDArray[np.float32]) -> None:
        """Adds the next image; ``rows`` are [class, score, xmin, ymin, xmax, ymax]."""
        image = self._images[self._seen]
        boxes = to_pixels(rows[:, 2:], image.height, image.width, self._resize)
        for (label, score), box in zip(rows[:, :2].tolist(), boxes.tolist(), strict=True):
            if int(label) not in self._names:
                raise DataError(f"the label map has no item for the label {int(label)}")
            edges = [_hundredths(value) for value in (box[0], box[1])]
            edges += [_hundredths(box[2] - box[0]), _hundredths(box[3] - box[1])]
            self._found.append((image.name, int(label), score, edges))
        self._seen += 1
        if self._seen == self._count:
            self._write()
            self._seen, self._found = 0, []

    def _write(self) -> None:
        if self._format == "COCO":
            lines = [json.dumps([self._entry(*one) for one in self._found], indent=1)]
            self._write_file("", ".json", lines)
        elif self._format == "ILSVRC":
            self._write_file("", ".txt", (_line(*one, str(one[1])) for one in self._found))
        else:
            for label, name in self._names.items():
                if label != self._background:
                    own = (_line(*one) for one in self._found if one[1] == label)
                    self._write_file(name, ".txt", own)

    def _write_file(self, name: str, suffix: str, lines: Iterable[str]) -> None:
        with atomic_write(os.path.join(self._directory, self._prefix + name + suffix)) as file:
            file.write("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))

    def _entry(self, image: str, label: int, score: float, box: list[float]) -> dict[str, object]:
        name = self._names[label]
        return {
            "image_id": _plain(image),
            "category_id": _plain(name),
            "bbox": box,
            "score": float(f"{score:.6g}"),
        }


def _hundredths(value: float) -> float:
    return float(np.floor(np.float32(value) * np.float32(100) + 0.5)) / 100


def _plain(text: str) -> str | float | int:
    """A text that is a number as a number, as in SSD's files."""
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def _line(image: str, label: int, score: float, box: list[float], *words: str) -> str:
    left, top, width, height = (int(value) for value in box)
    return " ".join([image, *words, f"{score:.6g}", f"{left} {top} {left + width} {top + height}"])
