"""LevelDB's sorted tables. Source: table_format.md of LevelDB's documentation."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from caffecompat.data.backends.leveldb_encoding import Entry, read_number, read_numbers
from caffecompat.data.backends.random_access import OpenFiles
from caffecompat.errors import FormatError, needing_extra

_FOOTER = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_UNCOMPRESSED, _SNAPPY = 0, 1
# Blocks up to this size are read whole; of larger ones, which have large values, only the keys.
_SMALL_BLOCK = 1 << 14
_WINDOW = 1024
# The largest expansion of snappy: 3 bytes encode at most 64.
_SNAPPY_GROWTH = 22


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
            (shared, own, length), head = read_numbers(window, 0, 3)
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
        claimed, _ = read_number(data, 0)
        if claimed > _SNAPPY_GROWTH * size:
            raise ValueError(
                f"the block at {offset} claims {claimed:,} bytes after decompression, more than "
                f"its {size:,} bytes can give"
            )
        with needing_extra(
            f"{self._path}: this LevelDB table is compressed by snappy; reading it", "leveldb"
        ):
            import cramjam
        try:
            return bytes(cramjam.snappy.decompress_raw(data))
        except cramjam.DecompressionError as error:
            raise ValueError(f"the block at {offset} cannot be decompressed") from error

    def _read(self, start: int, size: int) -> bytes:
        return self._files.read(self._path, start, size)

    def _damaged(self, what: str) -> FormatError:
        return FormatError(f"{self._path}: the table is damaged: {what}; copy it again")


def _block_entries(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Key, position and length of the value of each entry; keys share prefixes."""
    (restarts,) = struct.unpack_from("<I", data, len(data) - 4)
    limit = len(data) - 4 * (restarts + 1)
    key, at = b"", 0
    while at < limit:
        (shared, own, length), at = read_numbers(data, at, 3)
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
    (offset, size), at = read_numbers(data, at, 2)
    return (offset, size), at
