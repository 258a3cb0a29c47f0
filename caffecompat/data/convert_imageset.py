"""Images and a list of them to a database.  Source of the semantics: convert_imageset.cpp, io.cpp.

A line of the list is a file name, one space, a label.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from caffecompat.data.database import create_database
from caffecompat.data.images import Pixels, decode_image, encode_image, resize_image
from caffecompat.data.sampling import permutation
from caffecompat.errors import DataError, FileProblem
from caffecompat.proto import schema
from caffecompat.proto.schema import Message

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_RECORDS_PER_COMMIT = 1000
_RECORDS_AHEAD = 64
_THREADS = min(16, os.cpu_count() or 1)
_LEADING_NUMBER = re.compile(rb"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_PLAIN_NUMBER = re.compile(rb"[+-]?[0-9]+")


@dataclass(frozen=True)
class Settings:
    """How to convert; the names and defaults are those of Caffe's flags.

    Attributes:
        gray: read images as grayscale.
        shuffle: write them in an order that ``seed`` decides.
        seed: of the shuffling.
        resize_width, resize_height: new size in pixels, used only if both are positive.
        check_size: refuse a record whose bytes are not as many as the first one's.
        encoded: store encoded images: the file's own bytes if it has that encoding and no
            resize is asked, even with ``gray``.
        encode_type: the encoding (``png``, ``jpg``, ...); implies ``encoded``. Without it each
            file keeps the encoding that its extension names.
        backend: kind of database.
    """

    gray: bool = False
    shuffle: bool = False
    seed: int = 0
    resize_width: int = 0
    resize_height: int = 0
    check_size: bool = False
    encoded: bool = False
    encode_type: str = ""
    backend: str = "LMDB"


@dataclass(frozen=True)
class Entry:
    """One line of a list: the file name as listed, and the label."""

    name: bytes
    label: int


def read_list(path: str) -> list[Entry]:
    """The entries of an image list.

    A line is split at its last space, so file names may contain spaces. A label is the number
    that its text begins with, or 0 (a log line tells of such labels). An empty line is an entry.

    Raises:
        FileProblem: the list cannot be read.
    """
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise FileProblem(f"{path}: the list cannot be read: {error.strerror}") from error
    if not lines[-1]:
        lines.pop()
    # Without a space the whole line is the name and the text of the label, as in Caffe.
    texts = [line[line.rfind(b" ") + 1 :] for line in lines]
    odd = [number for number, text in enumerate(texts) if not _PLAIN_NUMBER.fullmatch(text)]
    if odd:
        log.warning(
            "%s: %d labels are not whole numbers (the first is %r in line %d); "
            "the digits they begin with count, or else 0",
            *(path, len(odd), texts[odd[0]].decode(errors="replace"), odd[0] + 1),
        )
    return [
        Entry(line.rpartition(b" ")[0] if b" " in line else line, _leading_number(text))
        for line, text in zip(lines, texts, strict=True)
    ]


def convert_imageset(
    root: str,
    list_path: str,
    database: str,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the images of a list to a new database.

    Keys are the entry's number (8 digits, from 0, after shuffling), ``_`` and the name as
    listed. Images that cannot be read are logged and left out; their numbers stay unused.

    Args:
        root: put before each name as it is; usually ends with a slash.
        list_path: the list, see :func:`read_list`.
        database: the new database, which appears only when everything is written.
        settings: see :class:`Settings`; its defaults if None.
        progress: called with (entries done, entries in all) now and then, and at the end.

    Returns:
        How many records were written.

    Raises:
        FileProblem: the list cannot be read, or the database exists or cannot be written.
        DataError: an encoding or a backend that cannot be written, or ``check_size`` failed.
    """
    settings = settings or Settings()
    entries = read_list(list_path)
    if settings.shuffle:
        log.info("Shuffling data")
        order = permutation(settings.seed, len(entries), "convert_imageset order")
        entries = [entries[number] for number in order.tolist()]
    log.info("A total of %d images.", len(entries))
    if settings.encode_type and not settings.encoded:
        log.info("encode_type specified, assuming encoded=true.")
    with create_database(database, settings.backend) as writer:
        log.info("Opened %s %s", settings.backend.lower(), database)
        written = 0
        with closing(_records(root, entries, settings, progress)) as records:
            while batch := list(itertools.islice(records, _RECORDS_PER_COMMIT)):
                writer.write(batch)
                written += len(batch)
                log.info("Processed %d files.", written)
    return written


def _records(
    root: str, entries: list[Entry], settings: Settings, progress: Progress | None
) -> Generator[tuple[bytes, bytes], None, None]:
    """Keys and values of the readable entries, in order."""
    expected: int | None = None
    for number, datum in enumerate(_in_order(root, entries, settings)):
        name = entries[number].name
        if datum is None:
            log.error("Could not open or find file %s%s", root, _readable(name))
        else:
            key = b"%08d_%s" % (number, name)
            if settings.check_size and expected is None:
                expected = datum.channels * datum.height * datum.width
            elif settings.check_size and len(datum.data) != expected:
                raise _unequal(key, datum, expected)
            yield key, datum.SerializeToString()
        if progress and ((number + 1) % _RECORDS_PER_COMMIT == 0 or number + 1 == len(entries)):
            progress(number + 1, len(entries))


def _in_order(root: str, entries: list[Entry], settings: Settings) -> Iterator[Message | None]:
    """The records of all entries, made by a few threads ahead of the one that writes."""
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[Message | None]] = deque()
        for entry in entries:
            ahead.append(pool.submit(_record, root, entry, settings))
            if len(ahead) > _RECORDS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _record(root: str, entry: Entry, settings: Settings) -> Message | None:
    """The Datum of one image, None if it cannot be read."""
    try:
        with open(os.fsencode(root) + entry.name, "rb") as file:
            data = file.read()
    except (OSError, ValueError):
        return None
    pixels = decode_image(data, "gray" if settings.gray else "color")
    if pixels is None:
        return None
    if settings.resize_width > 0 and settings.resize_height > 0:
        pixels = resize_image(pixels, settings.resize_width, settings.resize_height)
    if settings.encoded or settings.encode_type:
        return _encoded_datum(data, pixels, entry, settings)
    datum = schema.new("Datum")
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    datum.channels, datum.height, datum.width = planes.shape
    datum.data = planes.tobytes()
    datum.label = entry.label
    datum.encoded = False
    return datum


def _encoded_datum(data: bytes, pixels: Pixels, entry: Entry, settings: Settings) -> Message:
    name = _readable(entry.name)
    extension = name.rpartition(".")[2].lower()
    encoding = settings.encode_type or extension
    # Asking for one of the two sizes resizes nothing, but is enough for Caffe to encode anew.
    resize_asked = settings.resize_width > 0 or settings.resize_height > 0
    datum = schema.new("Datum")
    if not resize_asked and _same_encoding(extension, encoding.lower()):
        datum.data = data
    else:
        try:
            datum.data = encode_image(pixels, encoding)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    datum.label = entry.label
    datum.encoded = True
    return datum


def _same_encoding(extension: str, encoding: str) -> bool:
    jpeg = ("jpg", "jpeg")
    return extension == encoding or (extension in jpeg and encoding in jpeg)


def _unequal(key: bytes, datum: Message, expected: int | None) -> DataError:
    place = f"record {_readable(key)!r}: check_size: {len(datum.data)} bytes of data"
    if datum.encoded:
        return DataError(
            f"{place}, but encoded images have no common size; leave out check_size or encoded"
        )
    return DataError(
        f"{place}, the first record has {expected}; give resize_width and resize_height, "
        "or leave out check_size"
    )


def _leading_number(text: bytes) -> int:
    """What C's atoi makes of a text: leading digits, 0 without any, cut to 32 bit."""
    found = _LEADING_NUMBER.match(text)
    number = int(found[1]) if found else 0
    number = max(-(1 << 63), min(number, (1 << 63) - 1))
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)


def _readable(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
