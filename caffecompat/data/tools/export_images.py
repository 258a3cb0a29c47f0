"""Export of a database to image files and an image list."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path, PurePosixPath

import numpy as np

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import encode_image, image_kind
from caffecompat.data.unfinished_output import new_folder
from caffecompat.errors import DataError, FileProblem
from caffecompat.output_files import sync_folder
from caffecompat.proto.schema import Message
from caffecompat.reporting.progress import Progress

_NUMBER = re.compile(r"^[0-9]{8,}_")
_RECORDS_PER_STEP = 10
# Longer keys become numbers: file systems allow names of 255 bytes, and paths of some thousand.
_LONGEST_PART, _MOST_PARTS = 200, 8
_SAME = {"jpeg": "jpg", "tiff": "tif"}
LIST = "list.txt"


def export(source: Database, folder: str, progress: Progress | None = None) -> int:
    """Writes the images of a database and ``list.txt``, which convert_imageset reads.

    The bytes of encoded records are kept; raw records become PNG. File names come from the keys,
    or from the record number if a key is not a plain relative name. The folder appears when
    everything is written.

    Returns:
        the number of images.

    Raises:
        FileProblem: ``folder`` exists or cannot be written.
        DataError: a record cannot be used, or image files cannot represent it.
    """
    target = os.path.normpath(folder)
    try:
        with new_folder(target) as unfinished:
            with open(os.path.join(unfinished, LIST), "wb") as listing:
                for position in range(len(source)):
                    name, label = _export_record(source, position, unfinished)
                    listing.write(os.fsencode(name) + b" %d\n" % label)
                    done = position + 1
                    if progress and (done % _RECORDS_PER_STEP == 0 or done == len(source)):
                        progress(done, len(source))
            _sync_tree(unfinished)
    except OSError as error:
        if isinstance(error, FileProblem):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise FileProblem(f"{target}: cannot be written: the disk is full") from error
        raise FileProblem(f"{target}: cannot be written: {error.strerror}") from error
    return len(source)


def _sync_tree(folder: str) -> None:
    """Syncs all files and folders of a folder tree to disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(place))


def _export_record(source: Database, position: int, folder: str) -> tuple[str, int]:
    key, value = source.read(position)
    try:
        datum = parse_datum(value)
        data, kind = _image_file(datum)
    except DataError as error:
        place = f"{source.path}: record {position} (key {key.decode(errors='backslashreplace')!r})"
        raise DataError(f"{place}: {error}") from error
    name = _file_name(key, kind, position, folder)
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb") as file:
        file.write(data)
    return name, datum.label


def _image_file(datum: Message) -> tuple[bytes, str]:
    """The record as the bytes of an image file, and the file's suffix."""
    if datum.encoded:
        kind = image_kind(datum.data)
        if kind is None:
            raise DataError(f"its {len(datum.data)} encoded bytes are not an image of a known type")
        return datum.data, kind
    pixels = decode_datum(datum)
    if pixels.dtype != np.uint8 or len(pixels) not in (1, 3, 4):
        what = f"{len(pixels)} channels" if pixels.dtype == np.uint8 else "float values"
        raise DataError(f"it has {what}, which image files cannot store; export only images")
    return encode_image(np.ascontiguousarray(pixels.transpose(1, 2, 0)), "png"), "png"


def _file_name(key: bytes, kind: str, position: int, folder: str) -> str:
    """A unique file name for a record, relative to the folder."""
    name = _NUMBER.sub("", os.fsdecode(key))
    parts = PurePosixPath(name).parts
    # Keys are untrusted: a name must not lead out of the folder or break the list.
    plain = name.isprintable() and "\\" not in name and not {"/", ".."} & set(parts)
    short = len(parts) <= _MOST_PARTS and all(len(os.fsencode(p)) <= _LONGEST_PART for p in parts)
    if not parts or not plain or not short or _below_a_file(parts, folder):
        return f"{position:08d}.{kind}"
    path = PurePosixPath(*parts)
    suffix = path.suffix[1:].lower()
    if _SAME.get(suffix, suffix) != kind:
        path = path.with_name(f"{path.stem}.{kind}")
    found = str(path)
    if found == LIST or os.path.lexists(os.path.join(folder, found)):
        found = str(path.with_name(f"{position:08d}_{path.name}"))
    return found


def _below_a_file(parts: tuple[str, ...], folder: str) -> bool:
    """Whether a folder of a name is an image that was written before, or the list."""
    folders = (os.path.join(folder, *parts[:end]) for end in range(1, len(parts)))
    return any(os.path.isfile(path) for path in folders)
