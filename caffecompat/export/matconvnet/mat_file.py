"""MAT files: numbers, text, cells and structs; here those of level 5 (MATLAB 5 to 7.2).

Read here and not by a library, because files come from anywhere: every count is compared with what
is there before memory is taken, and arrays that are not compressed are views of the mapped file.
Source: MathWorks' description of the MAT-file format, level 5.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.export.matconvnet.mat_hdf5 import read_mat_hdf5
from caffecompat.input_files import ClaimedBytes
from caffecompat.weights.encodings.zip_checks import MAX_DEFLATED
from caffecompat.weights.mapped import map_file

# A number array, text, a cell (column by column), or the elements of a struct array.
Value: TypeAlias = Any

HEADER_BYTES, TAG_BYTES = 128, 8
SIGNATURE = b"MATLAB "
HDF5_TITLE = b"MATLAB 7.3"
MATRIX, COMPRESSED = 14, 15
STORAGE = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
    18: "u4",
}
CELL, STRUCT, CHAR = 1, 2, 4
NUMBERS = range(6, 16)
COMPLEX_FLAG = 0x800
MAX_DEPTH, MAX_ELEMENTS, MAX_AXES = 32, 400_000, 32
# What an element of a cell or struct takes in the file at least, and in memory for a list's entry.
LEAST_ELEMENT = TAG_BYTES
CHUNK = 1 << 20
# Bytes of memory for a byte of text.
TEXT_WIDTH = 4
TEXT_ENCODINGS = {1: "latin-1", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


def read_mat(path: Path, max_bytes: int | None = None) -> dict[str, Value]:
    """The variables of a MAT file by name.

    Returns:
        Arrays in MATLAB's shapes; text as str; cells as lists; structs as lists of dicts.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: it is damaged, or claims more than the limit.
    """
    data = map_file(path, max_bytes)
    if len(data) < HEADER_BYTES:
        raise FormatError(f"{path}: this MAT file is cut off within its header")
    if bytes(data[: len(HDF5_TITLE)]) == HDF5_TITLE:
        return read_mat_hdf5(path, max_bytes)
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None:
        raise FormatError(f"{path}: the header of this MAT file has no byte order; it is damaged")
    reader = _Reader(
        path, order, ClaimedBytes(path, len(data), max_bytes, most=lambda: _most(data))
    )
    variables, at = {}, HEADER_BYTES
    while at < len(data):
        kind, body, at = reader.element(data, at)
        if kind == COMPRESSED:
            unpacked = reader.unpacked(body)
            kind, body, _ = reader.element(unpacked, 0)
        if kind == MATRIX:
            name, value = reader.matrix(body, 0)
            variables[name] = value
    return variables


def _most(data: memoryview) -> int:
    """The most that can be claimed: all is packed text."""
    return (1 + TEXT_WIDTH) * MAX_DEFLATED * len(data)


@dataclass
class _Reader:
    path: Path
    order: str
    claimed: ClaimedBytes
    elements: int = 0

    def error(self, found: str) -> FormatError:
        return FormatError(f"{self.path}: this MAT file is damaged or cut off: {found}")

    def element(self, data: memoryview, at: int) -> tuple[int, memoryview, int]:
        """Type and content of the element at ``at``, and where the next one begins."""
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise FormatError(f"{self.path}: this MAT file has more than {MAX_ELEMENTS:,} elements")
        if at + TAG_BYTES > len(data):
            raise self.error(f"an element begins at byte {at:,} of {len(data):,}")
        kind, size = (int(n) for n in np.frombuffer(data[at : at + TAG_BYTES], f"{self.order}u4"))
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            following = at + TAG_BYTES
            if size > 4:
                raise self.error(f"a small element has {size} bytes, expected at most 4")
        else:
            start = at + TAG_BYTES
            following = start + size + (-size % 8 if kind != COMPRESSED else 0)
        if start + size > len(data):
            raise self.error(f"an element claims {size:,} bytes, {len(data) - start:,} are left")
        return kind, data[start : start + size], following

    def unpacked(self, body: memoryview) -> memoryview:
        """The content of a compressed element, counted while it is unpacked."""
        unpacker, pieces, rest = zlib.decompressobj(), [], bytes(body)
        try:
            while rest and not unpacker.eof:
                piece = unpacker.decompress(rest, CHUNK)
                self.claimed.add(len(piece), "its unpacked content")
                pieces.append(piece)
                rest = unpacker.unconsumed_tail
        except zlib.error as error:
            raise self.error(f"it cannot be unpacked ({error})") from error
        return memoryview(b"".join(pieces))

    def matrix(self, body: memoryview, depth: int) -> tuple[str, Value]:
        """The name and the value of a matrix element."""
        if depth > MAX_DEPTH:
            raise self.error(f"cells and structs are nested more than {MAX_DEPTH} deep")
        if not len(body):
            return "", np.zeros((0, 0))
        flags, at = self.integers(body, 0)
        dims, at = self.integers(body, at)
        name, at = self.text(body, at)
        if not flags.size or not 2 <= dims.size <= MAX_AXES or dims.min() < 0:
            raise self.error("an array has no type or no shape")
        kind, shape = int(flags[0]) & 0xFF, tuple(int(n) for n in dims)
        if kind == CELL:
            return name, self.cell(body, at, prod(shape), depth)
        if kind == STRUCT:
            return name, self.struct(body, at, prod(shape), depth)
        if kind == CHAR:
            return name, self.text(body, at)[0]
        if kind not in NUMBERS or int(flags[0]) & COMPLEX_FLAG:
            raise FormatError(
                f"{self.path}: variable {name!r} of this MAT file is not numbers, text, a cell or "
                "a struct (a sparse matrix, an object or complex numbers), which nets do not have"
            )
        values, _ = self.array(body, at)
        if values.size != prod(shape):
            raise self.error(f"an array of shape {shape} has {values.size:,} values")
        return name, values.reshape(shape, order="F")

    def cell(self, body: memoryview, at: int, count: int, depth: int) -> list[Value]:
        self.check_count(count, body, at)
        values = []
        for _ in range(count):
            kind, inner, at = self.element(body, at)
            if kind != MATRIX:
                raise self.error("an entry of a cell is not an array")
            values.append(self.matrix(inner, depth + 1)[1])
        return values

    def struct(self, body: memoryview, at: int, count: int, depth: int) -> list[dict[str, Value]]:
        length, at = self.integers(body, at)
        names, at = self.array(body, at)
        if length.size != 1 or not 0 < int(length[0]) <= 1 << 16 or names.size % int(length[0]):
            raise self.error("the field names of a struct have no length")
        raw, step = names.tobytes(), int(length[0])
        fields = [
            raw[i : i + step].split(b"\0")[0].decode("latin-1") for i in range(0, len(raw), step)
        ]
        if not fields:
            # However many elements a struct without fields claims, one says as much.
            return [{}]
        self.check_count(count * len(fields), body, at)
        values = iter(self.cell(body, at, count * len(fields), depth))
        return [{field: next(values) for field in fields} for _ in range(count)]

    def check_count(self, count: int, body: memoryview, at: int) -> None:
        if count * LEAST_ELEMENT > max(0, len(body) - at):
            raise self.error(f"a cell or struct claims {count:,} entries")

    def array(self, body: memoryview, at: int) -> tuple[np.ndarray, int]:
        """The values of a numeric element, as they are stored."""
        kind, content, at = self.element(body, at)
        if kind not in STORAGE:
            raise self.error(f"an element has the type {kind}, expected numbers")
        dtype = np.dtype(self.order + STORAGE[kind])
        if len(content) % dtype.itemsize:
            raise self.error(f"an element of {dtype} has {len(content)} bytes")
        return np.frombuffer(content, dtype), at

    def integers(self, body: memoryview, at: int) -> tuple[np.ndarray, int]:
        """The values of an element that describes an array; fractions and NaN describe none."""
        values, following = self.array(body, at)
        if values.dtype.kind == "f":
            raise self.error("the type or the shape of an array is not in whole numbers")
        return values, following

    def text(self, body: memoryview, at: int) -> tuple[str, int]:
        kind, content, at = self.element(body, at)
        if kind not in TEXT_ENCODINGS:
            raise self.error(f"an element has the type {kind}, expected text")
        self.claimed.add(TEXT_WIDTH * len(content), "its text")
        encoding = TEXT_ENCODINGS[kind]
        if encoding.startswith("utf-") and kind != 2 and kind != 16:
            encoding += "-le" if self.order == "<" else "-be"
        return bytes(content).decode(encoding, "replace"), at
