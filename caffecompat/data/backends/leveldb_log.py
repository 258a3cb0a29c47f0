"""LevelDB's write-ahead log. Source: log_format.md of LevelDB's documentation."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from caffecompat.data.backends.leveldb_encoding import (
    DAMAGED,
    Entry,
    file_content,
    read_number,
    read_string,
)
from caffecompat.errors import FormatError
from caffecompat.input_files import MEBIBYTE, ClaimedBytes

_LOG_BLOCK = 32768
_LOG_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
# A lower bound of the memory of a write while the log is read.
_BYTES_PER_WRITE = 100
_MAX_BYTES = 2048 * MEBIBYTE


class Log:
    """A write-ahead log, held in memory; an incomplete record at its end is ignored."""

    def __init__(self, path: str) -> None:
        self._path = path
        folder, name = os.path.split(path)
        data = file_content(folder, name, _MAX_BYTES)
        self.size = len(data)
        try:
            self._batches = list(log_records(data))
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
        key, at = read_string(batch, at + 1)
        if kind == 0:
            yield Entry(key, sequence + i, True, number, 0, 0)
            continue
        length, at = read_number(batch, at)
        if kind != 1 or at + length > len(batch):
            raise ValueError("a batch of writes is incomplete")
        yield Entry(key, sequence + i, False, number, at, length)
        at += length


def log_records(data: bytes) -> Iterator[bytes]:
    """The records of a log file or a MANIFEST, assembled from their fragments."""
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
