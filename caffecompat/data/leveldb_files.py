"""The files of a LevelDB, read without changing them or needing more than read permission.

A LevelDB is a list of sorted tables (named in the MANIFEST) and a write-ahead log of what is not
in a table yet. LevelDB's own library rewrites both when it opens a database, even to read. Source:
log_format.md, table_format.md and impl.md of LevelDB's documentation. Checksums are not verified,
as LevelDB itself does not by default.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypeAlias

from caffecompat.errors import FormatError, MissingExtra

Bytes: TypeAlias = bytes | mmap.mmap

_LOG_BLOCK = 32768
_LOG_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_UNCOMPRESSED, _SNAPPY = 0, 1
_COMPARATOR = b"leveldb.BytewiseComparator"


class Entry(NamedTuple):
    """One write of a key; of several the one with the highest sequence number counts.

    The value is in part ``block`` of its file (-1: the file as it is) at ``start``.
    """

    key: bytes
    sequence: int
    deleted: bool
    block: int
    start: int
    length: int


class Part(Protocol):
    """A table or a log."""

    def entries(self) -> Iterator[Entry]:
        """All writes in order of (key, newest first)."""

    def value(self, block: int, start: int, length: int) -> bytes:
        """The value that an entry points to."""


def open_parts(folder: str) -> list[Part]:
    """The tables and logs that make up the present state of a database.

    Raises:
        FormatError: the folder holds no LevelDB, or its files are damaged or incomplete.
        FileProblem, MissingExtra: a file cannot be read; a table is compressed by snappy.
    """
    manifest = _manifest_name(folder)
    try:
        tables, first_log, previous_log = _read_manifest(_records(_content(folder, manifest)))
    except (ValueError, IndexError, struct.error) as error:
        raise FormatError(f"{os.path.join(folder, manifest)}: damaged: {error}") from error
    names = set(os.listdir(folder))
    parts: list[Part] = []
    for number in sorted(tables):
        found = [name for end in ("ldb", "sst") if (name := f"{number:06d}.{end}") in names]
        if not found:
            raise FormatError(
                f"{folder}: table {number:06d}.ldb, which {manifest} lists, is missing; copy the "
                "whole folder again"
            )
        parts.append(Table(os.path.join(folder, found[0])))
    logs = sorted(name for name in names if name.endswith(".log") and name[:-4].isdigit())
    for name in logs:
        if int(name[:-4]) >= first_log or int(name[:-4]) == previous_log:
            parts.append(Log(os.path.join(folder, name)))
    return parts


class Table:
    """A sorted, immutable file of blocks; values are read where they lie."""

    def __init__(self, path: str) -> None:
        self._path = path
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < _FOOTER:
                raise self._damaged(f"it has {size} bytes")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if struct.unpack_from("<Q", self._data, size - 8)[0] != _MAGIC:
            raise self._damaged("it does not end as a LevelDB table does")
        self._sizes: dict[int, int] = {}  # of the compressed blocks, by their place
        self._cached: tuple[int, bytes] = (-1, b"")

    def entries(self) -> Iterator[Entry]:
        """All writes in order; of uncompressed blocks only keys are touched."""
        try:
            at = len(self._data) - _FOOTER
            _, at = _handle(self._data, at)
            index, _ = _handle(self._data, at)
            content, start, size = self._block(*index)
            for _, at, _ in _block_entries(content, start, size):
                (offset, block_size), _ = _handle(content, at)
                yield from self._entries(offset, block_size)
        except (ValueError, IndexError, struct.error) as error:
            raise self._damaged(str(error)) from error

    def _entries(self, offset: int, size: int) -> Iterator[Entry]:
        data, start, length = self._block(offset, size)
        block = -1 if data is self._data else offset
        for key, at, count in _block_entries(data, start, length):
            tag = int.from_bytes(key[-8:], "little")
            yield Entry(key[:-8], tag >> 8, tag & 0xFF == 0, block, at, count)

    def value(self, block: int, start: int, length: int) -> bytes:
        if block < 0:
            return self._data[start : start + length]
        cached = self._cached
        if cached[0] != block:
            cached = (block, self._decompressed(block, self._sizes[block]))
            self._cached = cached
        return cached[1][start : start + length]

    def _block(self, offset: int, size: int) -> tuple[Bytes, int, int]:
        """The content of a block: where it is, from which byte, how many."""
        if offset + size + 5 > len(self._data):
            raise ValueError(f"a block of {size} bytes at {offset} lies beyond the end of the file")
        if self._data[offset + size] == _UNCOMPRESSED:
            return self._data, offset, size
        content = self._decompressed(offset, size)
        self._sizes[offset] = size
        return content, 0, len(content)

    def _decompressed(self, offset: int, size: int) -> bytes:
        if self._data[offset + size] != _SNAPPY:
            raise ValueError(f"the block at {offset} has an unknown compression")
        try:
            import cramjam
        except ImportError as error:
            raise MissingExtra(
                f"{self._path}: this LevelDB table is compressed by snappy; reading it", "leveldb"
            ) from error
        try:
            return bytes(cramjam.snappy.decompress_raw(self._data[offset : offset + size]))
        except cramjam.DecompressionError as error:
            raise ValueError(f"the block at {offset} cannot be decompressed") from error

    def _damaged(self, what: str) -> FormatError:
        return FormatError(f"{self._path}: the table is damaged: {what}; copy it again")


class Log:
    """A write-ahead log, held in memory; what a crash cut off at its end is left out."""

    def __init__(self, path: str) -> None:
        self._path = path
        folder, name = os.path.split(path)
        self._batches = list(_records(_content(folder, name)))

    def entries(self) -> Iterator[Entry]:
        try:
            found = [
                e for number, batch in enumerate(self._batches) for e in _writes(batch, number)
            ]
        except (ValueError, IndexError, struct.error) as error:
            raise FormatError(
                f"{self._path}: the log is damaged: {error}; copy it again"
            ) from error
        yield from sorted(found, key=lambda entry: (entry.key, -entry.sequence))

    def value(self, block: int, start: int, length: int) -> bytes:
        return self._batches[block][start : start + length]


def _writes(batch: bytes, number: int) -> Iterator[Entry]:
    """The writes of one atomic batch: sequence number, count, then kind, key and value of each."""
    sequence, count = struct.unpack_from("<QI", batch)
    at = 12
    for i in range(count):
        kind = batch[at]
        key, at = _sized(batch, at + 1)
        if kind == 0:
            yield Entry(key, sequence + i, True, number, 0, 0)
            continue
        length, at = _varint(batch, at)
        if kind != 1 or at + length > len(batch):
            raise ValueError("a batch of writes is incomplete")
        yield Entry(key, sequence + i, False, number, at, length)
        at += length


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a log file, put together from their fragments."""
    at, fragments = 0, b""
    while at + _LOG_HEADER <= len(data):
        room = _LOG_BLOCK - at % _LOG_BLOCK
        if room < _LOG_HEADER:
            at += room
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        fragment = data[at + _LOG_HEADER : at + _LOG_HEADER + length]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(fragment) < length:
            return
        fragments = fragment if kind in (_FULL, _FIRST) else fragments + fragment
        if kind in (_FULL, _LAST):
            yield fragments
        at += _LOG_HEADER + length


def _read_manifest(records: Iterator[bytes]) -> tuple[set[int], int, int]:
    """The numbers of the live tables, of the first live log, and of the one before it."""
    tables: set[int] = set()
    log = previous_log = 0
    for record in records:
        at = 0
        while at < len(record):
            tag, at = _varint(record, at)
            if tag == 1:
                name, at = _sized(record, at)
                if name != _COMPARATOR:
                    raise ValueError(f"keys are ordered by {name!r}, expected {_COMPARATOR!r}")
            elif tag == 2:
                log, at = _varint(record, at)
            elif tag in (3, 4):
                _, at = _varint(record, at)
            elif tag == 5:
                _, at = _varint(record, at)
                _, at = _sized(record, at)
            elif tag == 6:
                _, at = _varint(record, at)
                number, at = _varint(record, at)
                tables.discard(number)
            elif tag == 7:
                (_, number, _), at = _varints(record, at, 3)
                tables.add(number)
                _, at = _sized(record, at)
                _, at = _sized(record, at)
            elif tag == 9:
                previous_log, at = _varint(record, at)
            else:
                raise ValueError(f"unknown field {tag}")
    return tables, log, previous_log


def _block_entries(data: Bytes, start: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Key, place of the value and its length of each entry; keys share beginnings."""
    end = start + size
    (restarts,) = struct.unpack_from("<I", data, end - 4)
    limit = end - 4 * (restarts + 1)
    key, at = b"", start
    while at < limit:
        (shared, own, length), at = _varints(data, at, 3)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, at, length
        at += length
    if at != limit:
        raise ValueError(f"the entries of the block at {start} do not fill it")


def _handle(data: Bytes, at: int) -> tuple[tuple[int, int], int]:
    (offset, size), at = _varints(data, at, 2)
    return (offset, size), at


def _sized(data: Bytes, at: int) -> tuple[bytes, int]:
    length, at = _varint(data, at)
    if at + length > len(data):
        raise ValueError(f"a text of {length} bytes runs over the end")
    return data[at : at + length], at + length


def _varints(data: Bytes, at: int, count: int) -> tuple[list[int], int]:
    values = []
    for _ in range(count):
        value, at = _varint(data, at)
        values.append(value)
    return values, at


def _varint(data: Bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number at byte {at} has no end")


def _manifest_name(folder: str) -> str:
    try:
        name = _content(folder, "CURRENT").decode("ascii").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{folder}: this is no LevelDB: its file CURRENT cannot be read; expected a folder "
            "that a LevelDB writer made"
        ) from error
    if not name.startswith("MANIFEST-") or os.sep in name:
        raise FormatError(f"{folder}: this is no LevelDB: its file CURRENT names {name!r}")
    return name


def _content(folder: str, name: str) -> bytes:
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()
