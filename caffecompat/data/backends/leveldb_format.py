"""The LevelDB file reader, which changes nothing and needs only read permission.

A LevelDB consists of sorted tables (listed in the MANIFEST) and a write-ahead log of records that
are not in a table yet. LevelDB's own library rewrites both when it opens a database, even for
reading. Source: log_format.md, table_format.md and impl.md of LevelDB's documentation. Checksums
are not verified, which is LevelDB's default, too. Work and memory are bounded by the size of the
files: blocks must not overlap, and claimed sizes are counted before memory is allocated.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from caffecompat.data.backends.random_access import OpenFiles
from caffecompat.errors import FileProblem, FormatError, MissingExtra
from caffecompat.input_files import MEBIBYTE, ClaimedBytes, open_input

_LOG_BLOCK = 32768
_LOG_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_FOOTER = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_UNCOMPRESSED, _SNAPPY = 0, 1
# Blocks up to this size are read whole; of larger ones, which have large values, only the keys.
_SMALL_BLOCK = 1 << 14
_WINDOW = 1024
# The largest expansion of snappy: 3 bytes encode at most 64.
_SNAPPY_GROWTH = 22
# A lower bound of the memory of a write while the log is read.
_BYTES_PER_WRITE = 100
_MAX_CURRENT, _MAX_MANIFEST, _MAX_LOG = 4096, 64 * MEBIBYTE, 2048 * MEBIBYTE
DAMAGED = "the database is damaged, copy it again or create it again"
_MANIFEST = re.compile(r"MANIFEST-[0-9]{1,20}")
_COMPARATOR = b"leveldb.BytewiseComparator"


class Entry(NamedTuple):
    """One write of a key; among several writes the one with the highest sequence number counts.

    The value starts at ``start`` in block ``block`` of its file, or in the file if ``block`` is -1.
    """

    key: bytes
    sequence: int
    deleted: bool
    block: int
    start: int
    length: int


class Part(Protocol):
    """A table or a log; ``size`` is its file's length in bytes."""

    size: int

    def entries(self) -> Iterator[Entry]:
        """All writes in order of (key, newest first)."""

    def value(self, block: int, start: int, length: int) -> bytes:
        """The value that an entry points to."""


def open_parts(folder: str, files: OpenFiles) -> list[Part]:
    """The tables and logs of the current state of a database; tables are opened with ``files``.

    Raises:
        FormatError: the folder is not a LevelDB, or its files are damaged or incomplete.
        FileProblem, MissingExtra: a file cannot be read; a table is compressed by snappy.
    """
    manifest = _manifest_name(folder)
    try:
        tables, first_log, previous_log = _read_manifest(
            _records(_content(folder, manifest, _MAX_MANIFEST))
        )
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
        parts.append(Table(os.path.join(folder, found[0]), files))
    logs = sorted(name for name in names if name.endswith(".log") and name[:-4].isdigit())
    for name in logs:
        if int(name[:-4]) >= first_log or int(name[:-4]) == previous_log:
            parts.append(Log(os.path.join(folder, name)))
    return parts


class Table:
    """A sorted, immutable file of blocks; values are read on request."""

    def __init__(self, path: str, files: OpenFiles) -> None:
        self._path = path
        self._files = files
        self.size = files.size(path)
        if self.size < _FOOTER:
            raise self._damaged(f"it has {self.size} bytes")
        if self._read(self.size - 8, 8) != _MAGIC:
            raise self._damaged("it does not end as a LevelDB table does")
        self._sizes: dict[int, int] = {}  # sizes of compressed blocks by offset
        self._cached: tuple[int, bytes] = (-1, b"")

    def entries(self) -> Iterator[Entry]:
        """All writes in order; only the keys of large uncompressed blocks are read."""
        try:
            footer = self._read(self.size - _FOOTER, _FOOTER)
            _, at = _handle(footer, 0)
            index = self._block(*_handle(footer, at)[0])
            end, latest = 0, (b"", 0)
            for _, at, length in _block_entries(index):
                (offset, size), _ = _handle(index[at : at + length], 0)
                if offset < end:
                    raise ValueError(f"the block at {offset} overlaps the one before it")
                end = offset + size
                for entry in self._entries(offset, size):
                    order = (entry.key, -entry.sequence)
                    if order <= latest:
                        raise ValueError("its keys are not in order")
                    latest = order
                    yield entry
        except FormatError:
            raise
        except (ValueError, IndexError, struct.error) as error:
            raise self._damaged(str(error)) from error

    def value(self, block: int, start: int, length: int) -> bytes:
        """The value that an entry points to.

        Raises:
            ValueError: the file has been truncated or changed.
        """
        if block < 0:
            return self._read(start, length)
        cached = self._cached
        if cached[0] != block:
            cached = (block, self._block(block, self._sizes[block]))
            self._cached = cached
        return cached[1][start : start + length]

    def _entries(self, offset: int, size: int) -> Iterator[Entry]:
        self._check_place(offset, size)
        small = size <= _SMALL_BLOCK
        # The last number of a block, followed by the type of its compression.
        start = offset if small else offset + size - 4
        data = self._read(start, offset + size + 1 - start)
        compressed = data[-1] != _UNCOMPRESSED
        if compressed:
            self._sizes[offset] = size
            found, moved = _block_entries(self._block(offset, size)), 0
        elif small:
            found, moved = _block_entries(data[:-1]), offset
        else:
            found, moved = self._large_block_entries(offset, size, data[:-1]), 0
        for key, at, count in found:
            if len(key) < 8:
                raise ValueError(f"a key of the block at {offset} is too short")
            tag = int.from_bytes(key[-8:], "little")
            place = (offset if compressed else -1, at + moved, count)
            yield Entry(key[:-8], tag >> 8, tag & 0xFF == 0, *place)

    def _large_block_entries(
        self, start: int, size: int, last: bytes
    ) -> Iterator[tuple[bytes, int, int]]:
        """Like :func:`_block_entries`, but does not read values."""
        (restarts,) = struct.unpack("<I", last)
        limit = start + size - 4 * (restarts + 1)
        key, at = b"", start
        while at < limit:
            window = self._read(at, min(_WINDOW, limit - at))
            (shared, own, length), head = _varints(window, 0, 3)
            _check_entry((shared, own, length), len(key), limit - at - head)
            text = window[head : head + own]
            if len(text) < own:
                text += self._read(at + head + len(text), own - len(text))
            key = key[:shared] + text
            yield key, at + head + own, length
            at += head + own + length
        if at != limit:
            raise ValueError(f"the entries of the block at {start} do not fill it")

    def _check_place(self, offset: int, size: int) -> None:
        # A block is followed by the type of its compression and a checksum of 4 bytes.
        if size < 4 or offset + size + 5 > self.size:
            raise ValueError(f"a block of {size} bytes at {offset} lies beyond the end of the file")

    def _block(self, offset: int, size: int) -> bytes:
        """The content of a block, decompressed if it is compressed."""
        self._check_place(offset, size)
        data = self._read(offset, size + 1)
        data, compression = data[:-1], data[-1]
        if compression == _UNCOMPRESSED:
            return data
        if compression != _SNAPPY:
            raise ValueError(f"the block at {offset} has an unknown compression")
        claimed, _ = _varint(data, 0)
        if claimed > _SNAPPY_GROWTH * size:
            raise ValueError(
                f"the block at {offset} claims {claimed:,} bytes after decompression, more than "
                f"its {size:,} bytes can give"
            )
        try:
            import cramjam
        except ImportError as error:
            raise MissingExtra(
                f"{self._path}: this LevelDB table is compressed by snappy; reading it", "leveldb"
            ) from error
        try:
            return bytes(cramjam.snappy.decompress_raw(data))
        except cramjam.DecompressionError as error:
            raise ValueError(f"the block at {offset} cannot be decompressed") from error

    def _read(self, start: int, size: int) -> bytes:
        return self._files.read(self._path, start, size)

    def _damaged(self, what: str) -> FormatError:
        return FormatError(f"{self._path}: the table is damaged: {what}; copy it again")


class Log:
    """A write-ahead log, held in memory; an incomplete record at its end is ignored."""

    def __init__(self, path: str) -> None:
        self._path = path
        folder, name = os.path.split(path)
        data = _content(folder, name, _MAX_LOG)
        self.size = len(data)
        try:
            self._batches = list(_records(data))
            writes = sum(struct.unpack_from("<QI", batch)[1] for batch in self._batches)
        except (ValueError, struct.error) as error:
            raise self._damaged(str(error)) from error
        claimed = ClaimedBytes(path, len(data), remedy=DAMAGED)
        claimed.add(writes * _BYTES_PER_WRITE, f"its {writes:,} writes")

    def entries(self) -> Iterator[Entry]:
        try:
            found = [
                e for number, batch in enumerate(self._batches) for e in _writes(batch, number)
            ]
        except (ValueError, IndexError, struct.error) as error:
            raise self._damaged(str(error)) from error
        yield from sorted(found, key=lambda entry: (entry.key, -entry.sequence))

    def value(self, block: int, start: int, length: int) -> bytes:
        return self._batches[block][start : start + length]

    def _damaged(self, what: str) -> FormatError:
        return FormatError(f"{self._path}: the log is damaged: {what}; copy it again")


def _writes(batch: bytes, number: int) -> Iterator[Entry]:
    """The writes of one atomic batch: sequence number, count, then type, key and value of each."""
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
    """The records of a log file, assembled from their fragments."""
    at = 0
    fragments: list[bytes] | None = None
    while at + _LOG_HEADER <= len(data):
        remaining = _LOG_BLOCK - at % _LOG_BLOCK
        if remaining < _LOG_HEADER:
            at += remaining
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        fragment = data[at + _LOG_HEADER : at + _LOG_HEADER + length]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(fragment) < length:
            return
        if kind in (_FULL, _FIRST):
            fragments = []
        if fragments is None:
            raise ValueError(f"the fragment at byte {at} has no beginning")
        fragments.append(fragment)
        if kind in (_FULL, _LAST):
            yield b"".join(fragments)
            fragments = None
        at += _LOG_HEADER + length


def _read_manifest(records: Iterator[bytes]) -> tuple[set[int], int, int]:
    """The numbers of the current tables, of the first current log, and of the log before it."""
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


def _block_entries(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Key, position and length of the value of each entry; keys share prefixes."""
    (restarts,) = struct.unpack_from("<I", data, len(data) - 4)
    limit = len(data) - 4 * (restarts + 1)
    key, at = b"", 0
    while at < limit:
        (shared, own, length), at = _varints(data, at, 3)
        _check_entry((shared, own, length), len(key), limit - at)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, at, length
        at += length
    if at != limit:
        raise ValueError("the entries of a block do not fill it")


def _check_entry(sizes: tuple[int, int, int], known: int, remaining: int) -> None:
    """Checks an entry's sizes against the previous key and the rest of its block."""
    shared, own, length = sizes
    if shared > known or own + length > remaining:
        raise ValueError(f"an entry of {own} and {length} bytes does not fit its block")


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    (offset, size), at = _varints(data, at, 2)
    return (offset, size), at


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _varint(data, at)
    if at + length > len(data):
        raise ValueError(f"a string of {length} bytes runs over the end")
    return data[at : at + length], at + length


def _varints(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    values = []
    for _ in range(count):
        value, at = _varint(data, at)
        values.append(value)
    return values, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
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
        name = _content(folder, "CURRENT", _MAX_CURRENT).decode("ascii").rstrip("\n")
    except (FileProblem, UnicodeDecodeError) as error:
        raise FormatError(
            f"{folder}: this is not a LevelDB: its file CURRENT cannot be read; expected a folder "
            "that a LevelDB writer created"
        ) from error
    if not _MANIFEST.fullmatch(name):
        raise FormatError(f"{folder}: this is not a LevelDB: its file CURRENT names {name[:80]!r}")
    return name


def _content(folder: str, name: str, max_bytes: int) -> bytes:
    path = os.path.join(folder, name)
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise FormatError(
                f"{path}: {size:,} bytes, more than the {max_bytes:,} that such a file of a "
                f"LevelDB may have; {DAMAGED}"
            )
        return file.read(size)
