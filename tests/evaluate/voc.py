"""A small data set in the layout of PASCAL VOC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

# xmin, ymin, xmax, ymax of the persons, counted from 1, the last pixels inclusive.
BOXES = [(3, 2, 9, 12), (11, 5, 30, 21)]
HEIGHT, WIDTH = 21, 30


def write_voc(
    folder: Path,
    sets: Mapping[str, Sequence[str]],
    count: int = 4,
    classes: Sequence[str] = ("jumping", "reading"),
) -> None:
    """Images of two persons each, and the files of classes of each set.

    Args:
        sets: task and set, and the images in it.
        count: images 0 to ``count`` - 1.
    """
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(4)
    for number in range(count):
        pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "JPEGImages" / f"2010_{number}.jpg"), pixels)
        objects = "".join(map(annotated, BOXES))
        path = folder / "Annotations" / f"2010_{number}.xml"
        path.write_text(f"<annotation>{objects}</annotation>")
    for image_set, images in sets.items():
        task, name = image_set.split("/")
        place = folder / "ImageSets" / task
        place.mkdir(parents=True, exist_ok=True)
        for number, class_name in enumerate(classes):
            path = place / f"{class_name}_{name}.txt"
            path.write_text("".join(lines(task, images, number)))


def annotated(box: Sequence[int]) -> str:
    edges = zip(("xmax", "xmin", "ymax", "ymin"), (box[2], box[0], box[3], box[1]), strict=True)
    inner = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return f"<object><name>person</name><bndbox>{inner}</bndbox></object>"


def lines(task: str, images: Sequence[str], class_number: int) -> list[str]:
    """Every second image or person is of a class."""
    items = [f"{image}  {n}" for image in images for n in (1, 2)] if task == "Action" else images
    return [f"{item} {1 if (i + class_number) % 2 else -1:2}\n" for i, item in enumerate(items)]
