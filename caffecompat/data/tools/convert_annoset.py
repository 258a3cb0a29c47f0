"""Conversion of images and annotations to a database of AnnotatedDatum, as SSD's convert_annoset.

Source of the semantics: convert_annoset.cpp, io.cpp.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from caffecompat.data.backends.database import create_database, in_commits, refuse_finished
from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import (
    Pixels,
    decode_file,
    read_image_file,
    resize_image,
)
from caffecompat.data.counter_rng import permutation
from caffecompat.data.label_map import LabelMap, read_label_map
from caffecompat.data.loader.threaded_map import threaded_map
from caffecompat.data.sources.image_lists.image_list_faults import refuse_absent
from caffecompat.data.tools.annotation_files import READERS, Annotations, read_annotations
from caffecompat.data.tools.imageset_records import (
    encoded_image,
    readable_name,
    record_key,
    unequal_sizes,
)
from caffecompat.errors import DataError
from caffecompat.input_files import read_input
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.reporting.progress import Progress
from caffecompat.reporting.terminal import short_name, shorten

log = logging.getLogger(__name__)

KINDS = ("classification", "detection")


@dataclass(frozen=True)
class AnnosetSettings:
    """Settings of a conversion, with the names and defaults of SSD's flags.

    Attributes:
        gray: read images as grayscale.
        shuffle: write them in a random order.
        seed: of the shuffling.
        backend: ``lmdb`` or ``leveldb``.
        anno_type: ``detection`` for boxes, ``classification`` for one label per image.
        label_type: of the annotation files: ``xml``, ``json`` or ``txt``.
        label_map_file: names and numbers of the classes; needed for ``xml`` and ``json``.
        check_label: refuse a label map that has a name twice.
        min_dim, max_dim: enlarge images whose shorter side is less than ``min_dim``, but not so far
            that the longer side is more than ``max_dim``; shrink longer ones. 0 for no limit.
        resize_width, resize_height: new size in pixels, used only if both are positive and
            ``min_dim`` and ``max_dim`` are not.
        check_size: refuse images of different sizes.
        encoded: store encoded images; the bytes of the file where nothing changes them.
        encode_type: the encoding (``png``, ``jpg``); implies ``encoded``.
        workers: threads; None for one per core, at most 16.
        max_bytes: the largest list, label map or annotation file to read; None for 512 MiB, 64 MiB
            and 16 MiB.
    """

    gray: bool = False
    shuffle: bool = False
    seed: int = 0
    backend: str = "lmdb"
    anno_type: str = "classification"
    label_type: str = "xml"
    label_map_file: str = ""
    check_label: bool = False
    min_dim: int = 0
    max_dim: int = 0
    resize_width: int = 0
    resize_height: int = 0
    check_size: bool = False
    encoded: bool = False
    encode_type: str = ""
    workers: int | None = None
    max_bytes: int | None = None

    @property
    def detection(self) -> bool:
        """Whether the records get boxes."""
        return self.anno_type == "detection"


@dataclass
class ConvertedAnnoset:
    """The result: records and boxes written, and the names of images that could not be read."""

    records: int = 0
    boxes: int = 0
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Line:
    """A line of the list: an image, and its label or annotation file."""

    number: int
    name: bytes
    second: bytes


def convert_annoset(
    root: str,
    list_path: str,
    database: str,
    settings: AnnosetSettings | None = None,
    progress: Progress | None = None,
) -> ConvertedAnnoset:
    """Writes images with their annotations to a new database.

    Keys are the number of the line (8 digits, from 0, after shuffling), ``_``, and the image's
    name. Images that cannot be read are logged and left out. An image whose annotation file does
    not exist has no objects, as in SSD.

    Args:
        root: the prefix of each name in the list, usually with a slash at its end.
        list_path: lines ``image annotation``, separated by white space; for classification
            ``image label``.
        database: the new database, which appears when everything is written.
        settings: see :class:`AnnosetSettings`.
        progress: called with (images done, total).

    Raises:
        FileProblem, TextError, FormatError: a file cannot be read, or the database exists.
        DataError: impossible settings, a line of another form, an unknown class, or no image that
            exists or can be read.
    """
    settings = settings or AnnosetSettings()
    label_map = _check(settings)
    refuse_finished(database)
    lines = _read_lines(list_path, settings)
    refuse_absent(list_path, root, [line.name for line in lines])
    if settings.shuffle:
        log.info("Shuffling data")
        order = permutation(settings.seed, len(lines), "convert_annoset order").tolist()
        lines = [_Line(i, lines[k].name, lines[k].second) for i, k in enumerate(order)]
    log.info("A total of %d images.", len(lines))
    if settings.encode_type and not settings.encoded:
        log.info("encode_type specified, assuming encoded=true.")
    result = ConvertedAnnoset()
    records = _records(root, lines, settings, label_map, result, progress)
    with create_database(database, settings.backend) as writer, closing(records):
        log.info("Opened %s %s", settings.backend.lower(), database)
        for commit in in_commits(records):
            writer.write(commit)
        if not result.records:
            raise DataError(
                f"{list_path}: none of its {len(lines):,} images can be read (the first is "
                f"{short_name(result.unreadable[0])}); the files are not images that OpenCV can "
                "decode"
            )
    log.info("Processed %d files.", result.records)
    if result.unreadable:
        log.warning("%d images could not be read and were left out", len(result.unreadable))
    return result


def _check(settings: AnnosetSettings) -> LabelMap | None:
    """Refuses impossible settings; the label map, if one is needed."""
    for name, known in (("anno_type", KINDS), ("label_type", tuple(READERS))):
        if getattr(settings, name) not in known:
            raise DataError(
                f"{name} is {getattr(settings, name)!r}, expected one of {', '.join(known)}"
            )
    if not settings.detection or settings.label_type == "txt":
        return None
    if not settings.label_map_file:
        raise DataError(
            "label_map_file is missing; it names the classes of the annotation files, one item "
            '{ name: "cat" label: 1 } for each'
        )
    return read_label_map(settings.label_map_file, settings.max_bytes, settings.check_label)


def _read_lines(path: str, settings: AnnosetSettings) -> list[_Line]:
    found: list[_Line] = []
    for number, line in enumerate(read_input(path, settings.max_bytes).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        label = len(words) == 2 and (settings.detection or words[1].lstrip(b"-").isdigit())
        if not label or (len(words[1]) > 10 and not settings.detection):
            shown = shorten(line.decode(errors="backslashreplace"), 60)
            second = "its annotation file" if settings.detection else "its label"
            raise DataError(
                f"{path}: line {number} is {shown!r}, expected an image and {second}, separated by "
                "a space (names have no spaces)"
            )
        found.append(_Line(len(found), words[0], words[1]))
    if not found:
        raise DataError(f"{path}: the list is empty; it needs at least one image")
    return found


def _records(
    root: str,
    lines: list[_Line],
    settings: AnnosetSettings,
    label_map: LabelMap | None,
    result: ConvertedAnnoset,
    progress: Progress | None,
) -> Generator[tuple[bytes, bytes], None, None]:
    """Keys and values of the images that can be read."""
    size: int | None = None
    made = threaded_map(
        lambda line: _record(root, line, settings, label_map), iter(lines), settings.workers
    )
    with closing(made) as records:
        for line, record in zip(lines, records, strict=True):
            if record is None:
                name = root + readable_name(line.name)
                log.error("Could not open or find file %s", short_name(name))
                result.unreadable.append(name)
            else:
                key = record_key(line.number, line.name)
                if settings.check_size and size not in (None, len(record.datum.data)):
                    raise unequal_sizes(key, record.datum, size)
                size = len(record.datum.data)
                result.records += 1
                result.boxes += sum(len(group.annotation) for group in record.annotation_group)
                yield key, record.SerializeToString()
            if progress:
                progress(line.number + 1, len(lines))


def _record(
    root: str, line: _Line | None, settings: AnnosetSettings, label_map: LabelMap | None
) -> Message | None:
    """The AnnotatedDatum of one image; None if the image cannot be read."""
    if line is None:
        return None
    try:
        data = read_image_file(os.fsencode(root) + line.name)
        pixels = decode_file(data, "gray" if settings.gray else "color")
    except DataError:
        return None
    if pixels is None:
        return None
    record = schema.new("AnnotatedDatum")
    _fill_datum(record.datum, pixels, data, line, settings)
    if not settings.detection:
        record.datum.label = int(line.second)
        return record
    record.datum.label = -1
    record.type = 0
    path = os.fsdecode(os.fsencode(root) + line.second)
    if os.path.exists(path):
        size = (pixels.shape[0], pixels.shape[1])
        kind, limit = settings.label_type, settings.max_bytes
        _add_objects(record, read_annotations(path, kind, size, label_map, limit))
    return record


def _fill_datum(
    datum: Message, pixels: Pixels, data: bytes, line: _Line, settings: AnnosetSettings
) -> None:
    resized = _resized(pixels, settings)
    datum.height, datum.width = resized.shape[:2]
    datum.channels = 1 if resized.ndim == 2 else resized.shape[2]
    if not (settings.encoded or settings.encode_type):
        datum.data = planes(resized).tobytes()
        datum.encoded = False
        return
    kept = data if resized is pixels and not settings.gray else None
    datum.data = encoded_image(resized, kept, readable_name(line.name), settings.encode_type)
    datum.encoded = True


def _resized(pixels: Pixels, settings: AnnosetSettings) -> Pixels:
    height, width = pixels.shape[:2]
    if settings.min_dim > 0 or settings.max_dim > 0:
        factor = np.float32(1)
        if 0 < min(height, width) < settings.min_dim:
            factor = np.float32(settings.min_dim) / np.float32(min(height, width))
        if 0 < settings.max_dim < int(factor * max(height, width)):
            factor = np.float32(settings.max_dim) / np.float32(max(height, width))
        if factor == 1:
            return pixels
        return resize_image(pixels, max(1, round(width * factor)), max(1, round(height * factor)))
    if settings.resize_width > 0 and settings.resize_height > 0:
        return resize_image(pixels, settings.resize_width, settings.resize_height)
    return pixels


def _add_objects(record: Message, found: Annotations) -> None:
    """Adds objects, grouped by class in the order of their first object."""
    groups: dict[int, Message] = {}
    for one in found.objects:
        if one.label not in groups:
            groups[one.label] = record.annotation_group.add(group_label=one.label)
        group = groups[one.label]
        annotation = group.annotation.add(instance_id=len(group.annotation))
        box = annotation.bbox
        left, top, right, bottom = one.box
        box.xmin, box.xmax = left / found.width, right / found.width
        box.ymin, box.ymax = top / found.height, bottom / found.height
        box.difficult = one.difficult
