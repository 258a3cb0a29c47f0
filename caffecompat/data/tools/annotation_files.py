"""The objects in annotation files: XML as PASCAL VOC has it, JSON as SSD's scripts write, text."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from caffecompat.data.label_map import LabelMap
from caffecompat.data.tools.voc_boxes import parse_xml
from caffecompat.errors import DataError, FormatError
from caffecompat.input_files import MEBIBYTE, read_input
from caffecompat.reporting.terminal import short_name

log = logging.getLogger(__name__)

_MAX_BYTES = 16 * MEBIBYTE


@dataclass(frozen=True)
class AnnotatedObject:
    """An object: its class, and its box in pixels of the image."""

    label: int
    box: tuple[float, float, float, float]
    difficult: bool = False


@dataclass(frozen=True)
class Annotations:
    """The objects of an image, and the image's size in pixels."""

    height: int
    width: int
    objects: tuple[AnnotatedObject, ...]


def read_annotations(
    path: str,
    kind: str,
    size: tuple[int, int],
    label_map: LabelMap | None,
    max_bytes: int | None = None,
) -> Annotations:
    """Reads an annotation file.

    A size other than that of the image, and boxes that reach beyond it, are read unchanged, with a
    warning. Source: SSD's io.cpp.

    Args:
        path: the file.
        kind: ``xml``, ``json`` or ``txt`` (lines ``label xmin ymin xmax ymax``).
        size: height and width of the image.
        label_map: of the names in XML and JSON files.
        max_bytes: the largest file to read; None for 16 MiB.

    Raises:
        FileProblem, FormatError: the file cannot be read or has another form.
        DataError: an object has no box, or its name is not in the label map.
    """
    found = READERS[kind](path, read_input(path, max_bytes or _MAX_BYTES), size, label_map)
    if (found.height, found.width) != size:
        log.warning(
            "%s: states the image size %dx%d (height x width), but the image has %dx%d",
            short_name(path),
            found.height,
            found.width,
            *size,
        )
    limits = (found.width, found.height) * 2
    for one in found.objects:
        outside = any(not 0 <= edge <= most for edge, most in zip(one.box, limits, strict=True))
        if outside or one.box[0] > one.box[2] or one.box[1] > one.box[3]:
            edges = " ".join(f"{edge:g}" for edge in one.box)
            log.warning("%s: the box %s exceeds the image or is empty", short_name(path), edges)
    return found


def _read_xml(
    path: str, data: bytes, size: tuple[int, int], label_map: LabelMap | None
) -> Annotations:
    root = parse_xml(path, data)
    stated = [_whole(root.findtext(f"size/{side}")) for side in ("height", "width")]
    height, width = (own or other for own, other in zip(stated, size, strict=True))
    objects = tuple(_object_of(item, path, label_map) for item in root.iter("object"))
    return Annotations(height, width, objects)


def _object_of(item: Element, path: str, label_map: LabelMap | None) -> AnnotatedObject:
    name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
    if box is None:
        raise DataError(f"{path}: an object {short_name(name)!r} has no bndbox")
    texts = [(box.findtext(edge) or "").strip() for edge in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (item.findtext("difficult") or "").strip() == "1"
    return AnnotatedObject(_label(name, path, label_map), _box(texts, path), difficult)


def _read_json(
    path: str, data: bytes, size: tuple[int, int], label_map: LabelMap | None
) -> Annotations:
    try:
        found = json.loads(data)
        image = found.get("image", {})
        height, width = (image.get(side) for side in ("height", "width"))
        items = [
            (str(one["category_id"]), one["bbox"], bool(int(one.get("iscrowd", 0))))
            for one in found["annotation"]
        ]
        boxes = [
            _box([x, y, float(x) + float(w), float(y) + float(h)], path)
            for x, y, w, h in (box for _, box, _ in items)
        ]
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise FormatError(
            f"{path}: it is not JSON with 'image' (height, width) and 'annotation' (a list of "
            f"category_id and bbox [x, y, width, height]): {error}"
        ) from error
    objects = tuple(
        AnnotatedObject(_label(name, path, label_map), box, crowd)
        for (name, _, crowd), box in zip(items, boxes, strict=True)
    )
    return Annotations(_whole(height) or size[0], _whole(width) or size[1], objects)


def _read_txt(
    path: str, data: bytes, size: tuple[int, int], label_map: LabelMap | None
) -> Annotations:
    objects = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        label = _whole(words[0])
        if len(words) != 5 or label is None:
            raise FormatError(
                f"{path}: line {number} is {short_name(line)!r}, expected: label xmin ymin xmax "
                "ymax"
            )
        objects.append(AnnotatedObject(label, _box(words[1:], path)))
    return Annotations(*size, tuple(objects))


READERS: dict[str, Callable[[str, bytes, tuple[int, int], LabelMap | None], Annotations]] = {
    "xml": _read_xml,
    "json": _read_json,
    "txt": _read_txt,
}


def _label(name: str, path: str, label_map: LabelMap | None) -> int:
    assert label_map is not None
    try:
        return label_map.label(name)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _box(values: list[Any], path: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (float(value) for value in values)
        # Not one of them is NaN either.
        if all(abs(value) < 1e6 for value in (left, top, right, bottom)):
            return left, top, right, bottom
    except (ValueError, OverflowError):
        pass
    shown = short_name(" ".join(str(value) for value in values))
    raise FormatError(f"{path}: the box {shown!r} is not four numbers of pixels")


def _whole(value: Any) -> int | None:
    """A whole number from 0 to 999999, or None."""
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None
