"""safetensors: named arrays behind a JSON header, mapped and not copied.

The layout is small enough to be read and written here, which needs no library: eight bytes with
the length of the header, the header, and the values. Source: the format's specification in the
safetensors project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from caffecompat.errors import FormatError, WeightsError
from caffecompat.input_files import ClaimedBytes
from caffecompat.output_files import atomic_write
from caffecompat.weights.array_names import NamedArrays
from caffecompat.weights.file_type import looks_like_safetensors
from caffecompat.weights.format import NamedFormat, formats
from caffecompat.weights.mapped import map_file
from caffecompat.weights.weights import as_float32

LENGTH_BYTES = 8
# The specification's limit for the header.
MAX_HEADER_BYTES = 100_000_000
# What parsed JSON takes in memory for a byte of text, at most.
MEMORY_PER_HEADER_BYTE = 32
# A number of one byte becomes a float32.
MOST_WIDENING = 4
# numpy's own limit.
MAX_AXES = 32
# Bytes written at a time; half the work of one large write where the array is a mapped file.
PIECE = 4 << 20
METADATA, TABLE = "__metadata__", "caffecompat"
# The writer's own keys of the metadata, and what other programs look for there.
FRAMEWORK = {"format": "pt"}

DTYPES: Mapping[str, tuple[str, str]] = {
    # The name in the header -> numpy's type, the name in messages.
    "F64": ("<f8", "float64"),
    "F32": ("<f4", "float32"),
    "F16": ("<f2", "float16"),
    "BF16": ("<u2", "bfloat16"),
    "I64": ("<i8", "int64"),
    "I32": ("<i4", "int32"),
    "I16": ("<i2", "int16"),
    "I8": ("i1", "int8"),
    "U64": ("<u8", "uint64"),
    "U32": ("<u4", "uint32"),
    "U16": ("<u2", "uint16"),
    "U8": ("u1", "uint8"),
    "BOOL": ("?", "bool"),
}


@formats.register("safetensors")
class Safetensors(NamedFormat):
    """``.safetensors``: arrays by name, with the preprocessing and the prototxt as metadata.

    Nothing of the header is believed: lengths, shapes and places are compared with the file first.
    """

    suffixes = (".safetensors",)
    holds_metadata = True

    def sniff(self, head: bytes, path: Path) -> bool:
        return looks_like_safetensors(head)

    def read(self, path: Path) -> NamedArrays:
        data = map_file(path, self.max_bytes)
        claimed = ClaimedBytes(path, len(data), self.max_bytes, most=lambda: _most(data))
        header, start = _header(data, claimed, path)
        metadata = _metadata(header.pop(METADATA, {}), path)
        entries = {name: _entry(name, value, path) for name, value in header.items()}
        _check_places(entries, len(data) - start, path)
        arrays = {
            name: _array(data[start + entry.begin : start + entry.end], entry, claimed)
            for name, entry in entries.items()
        }
        stored = {name: DTYPES[entry.dtype][1] for name, entry in entries.items()}
        return NamedArrays(arrays, metadata.pop(TABLE, None), stored, metadata)

    def write(self, named: NamedArrays, path: Path) -> None:
        header = _header_bytes(named, path)
        with atomic_write(path) as file:
            file.write(len(header).to_bytes(LENGTH_BYTES, "little"))
            file.write(header)
            for array in named.arrays.values():
                values = np.require(array, "<f4", ["C"]).reshape(-1).view(np.uint8).data
                for start in range(0, len(values), PIECE):
                    file.write(values[start : start + PIECE])


@dataclass(frozen=True)
class _Entry:
    """One array as the header states it; ``begin`` and ``end`` count from the header's end."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _header(data: memoryview, claimed: ClaimedBytes, path: Path) -> tuple[dict[str, Any], int]:
    """The header, and where the values begin."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + length
    if len(data) < LENGTH_BYTES or start > len(data) or length > MAX_HEADER_BYTES:
        raise FormatError(
            f"{path}: its header would have {length:,} bytes, but the file has {len(data):,} and "
            f"the limit is {MAX_HEADER_BYTES:,}; this safetensors file is cut off or damaged"
        )
    claimed.add(length * MEMORY_PER_HEADER_BYTE, "its header")
    text = bytes(data[LENGTH_BYTES:start])
    try:
        header = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: the header of this safetensors file is damaged: {error}") from (
            error
        )
    if not isinstance(header, dict):
        raise FormatError(f"{path}: the header of this safetensors file is not a JSON object")
    return header, start


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two entries have one name")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _metadata(found: object, path: Path) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise FormatError(f"{path}: the metadata of this safetensors file are not all text")
    return {key: value for key, value in found.items() if key not in FRAMEWORK}


def _most(data: memoryview) -> int:
    """The most memory that the header and the arrays as 32-bit numbers can take."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    return MEMORY_PER_HEADER_BYTE * length + MOST_WIDENING * len(data)


def _entry(name: str, value: Any, path: Path) -> _Entry:
    who = f"{path}: array {name!r}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{who} is not described by dtype, shape and data_offsets alone")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FormatError(f"{who} holds {dtype!r:.40}, expected one of {', '.join(DTYPES)}")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise FormatError(f"{who} has a shape or a place that is not made of whole numbers")
    if len(shape) > MAX_AXES:
        raise FormatError(f"{who} has {len(shape)} axes, but at most {MAX_AXES} are read")
    begin, end = offsets
    needed = prod(shape) * np.dtype(DTYPES[dtype][0]).itemsize
    if needed != end - begin:
        raise FormatError(
            f"{who} claims {needed:,} bytes by its shape and {end - begin:,} by its place"
        )
    return _Entry(name, dtype, tuple(shape), begin, end)


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_places(entries: dict[str, _Entry], size: int, path: Path) -> None:
    """The arrays fill the file without gap or overlap, as the specification wants it."""
    at = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != at:
            raise FormatError(
                f"{path}: array {entry.name!r} begins at byte {entry.begin:,} of the values, "
                f"expected {at:,}; arrays follow each other without gap or overlap"
            )
        at = entry.end
    if at != size:
        raise FormatError(
            f"{path}: its arrays take {at:,} bytes, but {size:,} follow the header; the file is "
            "cut off or damaged"
        )


def _array(data: memoryview, entry: _Entry, claimed: ClaimedBytes) -> np.ndarray:
    values = np.frombuffer(data, DTYPES[entry.dtype][0])
    if entry.dtype != "F32":
        claimed.add(values.size * 4, "its arrays as 32-bit numbers")
    if entry.dtype == "BF16":
        # The upper half of a float32.
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return as_float32(values).reshape(entry.shape)


def _header_bytes(named: NamedArrays, path: Path) -> bytes:
    header: dict[str, Any] = {METADATA: {**FRAMEWORK, **named.metadata}}
    if named.table is not None:
        header[METADATA][TABLE] = named.table
    at = 0
    for name, array in named.arrays.items():
        if name == METADATA:
            raise WeightsError(f"{path}: {METADATA!r} cannot be the name of an array here")
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [at, at + array.size * 4],
        }
        at += array.size * 4
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise WeightsError(f"{path}: the name of an array is not text: {error}") from error
    if len(text) > MAX_HEADER_BYTES - LENGTH_BYTES:
        raise WeightsError(
            f"{path}: names and metadata take {len(text):,} bytes, more than the "
            f"{MAX_HEADER_BYTES:,} that a safetensors file can have"
        )
    return text + b" " * (-len(text) % LENGTH_BYTES)
