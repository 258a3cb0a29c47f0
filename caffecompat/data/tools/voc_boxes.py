"""Bounding boxes from XML files as PASCAL VOC and ILSVRC publish them, to a box list.

An object of such a file has a ``name`` (its class) and a ``bndbox`` with ``xmin``, ``ymin``,
``xmax`` and ``ymax`` in pixels. Files are untrusted: a document type, and with it every entity, is
refused, and size and depth are limited.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from caffecompat.data.sources.objects.box_list import BoxEntry, line_of
from caffecompat.data.unfinished_output import lock_target, refuse_existing
from caffecompat.errors import DataError, FileProblem, FormatError, suggestion
from caffecompat.input_files import MEBIBYTE, read_input
from caffecompat.output_files import atomic_write
from caffecompat.reporting.terminal import short_name

# The largest file of published data sets has some tens of kilobytes.
_MAX_BYTES = 4 * MEBIBYTE
_MAX_DEPTH = 32
_SUFFIX = ".xml"
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_LARGEST = 999_999


@dataclass(frozen=True)
class VocOptions:
    """How XML files are read.

    Attributes:
        image_suffix: what the names of the images end with, in place of ``.xml``.
        one_based: the upper left pixel is 1, 1, as in PASCAL VOC, and not 0, 0.
        max_bytes: the largest file to read; None for 4 MiB.
    """

    image_suffix: str = ".JPEG"
    one_based: bool = False
    max_bytes: int | None = None


@dataclass(frozen=True)
class Converted:
    """What was converted.

    Attributes:
        lines: of the list; an image with objects of several classes has one for each.
        boxes: of all lines.
        without: the names of the files without an object of the classes.
    """

    lines: int
    boxes: int
    without: tuple[str, ...]


def convert_boxes(
    folder: str,
    classes: Sequence[str],
    output: str,
    options: VocOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Writes the boxes of all XML files in a folder tree to a box list.

    Args:
        folder: of the files; an image has the name of its file, relative to this folder.
        classes: the names of the classes, in order of their labels.
        output: the list to write.
        options: how the files are read.
        progress: called with the numbers of converted and of all files.

    Raises:
        FileProblem: the folder or a file cannot be read, or ``output`` exists or cannot be written.
        FormatError: a file is not well-formed, has a document type, or is too large.
        DataError: a file has no boxes where they are expected, an unknown class, or a name with
            spaces; there are no files, or no boxes.
    """
    options = options or VocOptions()
    labels = {name: label for label, name in enumerate(classes)}
    with lock_target(output):
        refuse_existing(output)
        names = sorted(_xml_files(folder))
        if not names:
            raise DataError(f"{folder}: there are no files whose names end in {_SUFFIX}")
        lines: list[bytes] = []
        boxes, without = 0, []
        for done, name in enumerate(names, 1):
            entries = _entries(folder, name, labels, options)
            lines += [line_of(entry) for entry in entries]
            boxes += sum(len(entry.corners) for entry in entries)
            if not entries:
                without.append(name)
            if progress is not None:
                progress(done, len(names))
        if not lines:
            raise DataError(f"{folder}: none of its {len(names)} XML files has an object")
        with atomic_write(output) as file:
            file.write(b"".join(line + b"\n" for line in lines))
    return Converted(len(lines), boxes, tuple(without))


def _xml_files(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise FileProblem(f"{error.filename}: the folder cannot be read: {error.strerror}")

    for place, _, files in os.walk(folder, onerror=refuse):
        for name in files:
            if name.lower().endswith(_SUFFIX) and not name.startswith("."):
                yield os.path.relpath(os.path.join(place, name), folder)


def _entries(folder: str, name: str, labels: dict[str, int], options: VocOptions) -> list[BoxEntry]:
    """The entries of one file, one for each class of its objects."""
    path = os.path.join(folder, name)
    image = os.fsencode(name[: -len(_SUFFIX)] + options.image_suffix)
    if image.split() != [image]:
        raise DataError(
            f"{path}: names in a box list have no spaces; rename the file and its image"
        )
    found: dict[int, list[list[int]]] = {}
    for item in parse_xml(path, read_input(path, options.max_bytes or _MAX_BYTES)).iter("object"):
        class_name = (item.findtext("name") or "").strip()
        if class_name not in labels:
            near = suggestion(class_name, labels) if len(labels) < 10000 else ""
            raise DataError(
                f"{path}: an object is a {short_name(class_name)!r}, which is not a class{near}; "
                "the names are the first words of the lines of the file of classes"
            )
        box = item.find("bndbox")
        if box is None:
            raise DataError(f"{path}: an object {class_name!r} has no bndbox")
        found.setdefault(labels[class_name], []).append(box_corners(box, path, options.one_based))
    return [BoxEntry(image, label, np.array(corners, np.int32)) for label, corners in found.items()]


def box_corners(box: Element, path: str, one_based: bool) -> list[int]:
    """xmin, ymin, xmax, ymax of a ``bndbox``: pixels counted from 0, the last ones inclusive.

    Args:
        box: the element.
        path: of its file, for messages.
        one_based: the file counts pixels from 1.

    Raises:
        DataError: an edge is no number of pixels, or the box ends before it begins.
    """
    corners = []
    for edge in _EDGES:
        text = (box.findtext(edge) or "").strip()
        try:
            # Some annotations have fractions of pixels.
            value = round(float(text)) - one_based
        except (ValueError, OverflowError):
            value = -1
        if not 0 <= value <= _LARGEST:
            shown = short_name(text)
            raise DataError(
                f"{path}: {edge} of a box is {shown!r}, expected a number of pixels, counted from "
                f"{int(one_based)} on"
            )
        corners.append(value)
    if corners[0] > corners[2] or corners[1] > corners[3]:
        raise DataError(f"{path}: a box ends before it begins: {corners}")
    return corners


def parse_xml(path: str, data: bytes) -> Element:
    """The root of an XML document.

    Args:
        path: for messages.
        data: the document.

    Raises:
        FormatError: it is not well-formed, has a document type, or is nested too deeply.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise FormatError(f"{path}: its elements are nested more than {_MAX_DEPTH} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse_doctype(*_: object) -> None:
        raise FormatError(
            f"{path}: it has a document type (DOCTYPE), which annotations do not need and which "
            "may define entities without end; remove it"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise FormatError(f"{path}: it is not well-formed XML: {error}") from error
    return builder.close()
