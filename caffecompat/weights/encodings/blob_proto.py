"""Reading and writing of BlobProto, the message for every array in Caffe's binary files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.reporting.units import format_shape
from caffecompat.weights.blob_shapes import MAX_AXES
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.wire import Message, Part
from caffecompat.weights.weights import as_float32

# Field numbers of BlobProto; the legacy four sizes are 1 to 4.
LEGACY = (1, 2, 3, 4)
DATA, DIFF, SHAPE, DOUBLE_DATA, DOUBLE_DIFF = 5, 6, 7, 8, 9
DTYPES = {DATA: "<f4", DIFF: "<f4", DOUBLE_DATA: "<f8", DOUBLE_DIFF: "<f8"}
PACKED_OR_LOOSE = {
    "<f4": (wire.LENGTH, wire.FIXED32),
    "<f8": (wire.LENGTH, wire.FIXED64),
}
# Fields of NVCaffe: raw bytes and their type. Other forks use these numbers with other wire types
# for other purposes.
RAW_DATA_TYPE, RAW_DIFF_TYPE, RAW_DATA, RAW_DIFF = 10, 11, 12, 13
RAW_DTYPES = {0: "<f8", 1: "<f4", 2: "<f2", 3: "<i4", 4: "<u4"}
DIM = 1
# Unpacked values between other fields arrive one by one; they are joined in groups of this many.
PIECES_PER_JOIN = 4096


@dataclass(frozen=True)
class Blob:
    """One array of a file.

    Attributes:
        data: float32.
        diff: the gradient, float32, of the same shape; None if the file has none.
        legacy: whether the legacy four sizes gave the shape.
        stored: the number type in the file ("float32").
        raw: whether the values are in NVCaffe's raw fields.
    """

    data: np.ndarray
    diff: np.ndarray | None
    legacy: bool
    stored: str = "float32"
    raw: bool = False


class _Values:
    """The values of one field, in the order of the file."""

    def __init__(self) -> None:
        self._joined: list[np.ndarray] = []
        self._pieces: list[np.ndarray] = []
        self.size = 0

    def add(self, piece: np.ndarray) -> None:
        self.size += piece.size
        self._pieces.append(piece)
        if len(self._pieces) >= PIECES_PER_JOIN:
            self._joined.append(np.concatenate(self._pieces))
            self._pieces = []

    def joined(self) -> np.ndarray:
        """All values as float32; a single packed piece of floats is a view into the file."""
        pieces = self._joined + self._pieces
        values = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, "<f4"), *pieces])
        return np.ascontiguousarray(as_float32(values))


def read_blob(message: Message, who: str) -> Blob:
    """Reads a BlobProto. Sources: Caffe's Blob::FromProto and Blob::ShapeEquals.

    One packed piece of floats becomes a view into the file; values in double precision, unpacked
    values and values in several pieces are copied. ``double_data`` takes precedence over ``data``,
    and both over NVCaffe's raw bytes. If any of the legacy sizes is present, the ``shape`` field is
    ignored. Source of the raw fields: NVCaffe's Blob::FromProto.

    Args:
        message: the BlobProto.
        who: the blob's name in messages ("layer 'fc6' (InnerProduct): blob 0").

    Raises:
        FormatError: damaged, or the number of values does not match the shape.
    """
    values: dict[int, _Values] = {}
    sizes: dict[int, int] = {}
    dims: list[int] = []
    raw: dict[int, wire.Field] = {}
    for field in message.fields():
        if field.number in LEGACY and field.wire == wire.VARINT:
            sizes[field.number] = wire.signed(field.value, 32)
        elif field.number == SHAPE and field.wire == wire.LENGTH:
            dims += _dims(message.child(field), who, MAX_AXES - len(dims))
        elif field.number in DTYPES:
            dtype = DTYPES[field.number]
            if field.wire in PACKED_OR_LOOSE[dtype]:
                values.setdefault(field.number, _Values()).add(message.numbers(field, dtype))
        elif field.number in (RAW_DATA_TYPE, RAW_DIFF_TYPE, RAW_DATA, RAW_DIFF):
            raw[field.number] = field
    shape = tuple(sizes.get(axis, 0) for axis in LEGACY) if sizes else tuple(dims)
    place = f"{message.path}: {who} (byte {message.start})"
    if min(shape, default=0) < 0:
        raise FormatError(f"{place}: its shape is {format_shape(shape)}, with a negative extent")
    raw_data = _raw(message, raw.get(RAW_DATA_TYPE), raw.get(RAW_DATA), who)
    raw_diff = _raw(message, raw.get(RAW_DIFF_TYPE), raw.get(RAW_DIFF), who)
    data, stored = _first(values.get(DOUBLE_DATA), values.get(DATA), raw_data)
    diff, _ = _first(values.get(DOUBLE_DIFF), values.get(DIFF), raw_diff)
    return Blob(
        _shaped(data, shape, f"{place} holds"),
        _shaped(diff, shape, f"{place} has a diff of") if diff.size else None,
        legacy=bool(sizes),
        stored=stored,
        raw=raw_data is not None,
    )


def blob_parts(
    data: np.ndarray, diff: np.ndarray | None = None, legacy: bool = False
) -> list[Part]:
    """A BlobProto's bytes in pieces; float32 values are not copied but refer to the array's memory.

    A ``legacy`` blob of four axes is written with the legacy sizes, since Caffe accepts 1x1xNxK for
    an N x K parameter only then. All other blobs get a ``shape``.
    """
    old = legacy and data.ndim == len(LEGACY)
    parts: list[Part] = []
    if old:
        for number, extent in zip(LEGACY, data.shape, strict=True):
            parts += wire.number_field(number, extent)
    parts += wire.packed_floats(DATA, as_float32(data))
    if diff is not None:
        parts += wire.packed_floats(DIFF, as_float32(diff))
    if not old:
        dims: list[Part] = [wire.varint(extent) for extent in data.shape]
        parts += wire.delimited(SHAPE, wire.delimited(DIM, dims) if dims else [])
    return parts


def _dims(message: Message, who: str, limit: int) -> Iterator[int]:
    """The extents of a BlobShape, at most ``limit`` of them: a damaged file may have millions."""
    for field in message.fields():
        if field.number != DIM or field.wire not in (wire.VARINT, wire.LENGTH):
            continue
        if field.repeats > limit:
            raise message.error(field.start, f"{who} has more than {MAX_AXES} axes")
        for value in message.varints(field):
            if not limit:
                raise message.error(field.start, f"{who} has more than {MAX_AXES} axes")
            limit -= 1
            yield wire.signed(value, 64)


def _first(
    doubles: _Values | None, floats: _Values | None, raw: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """The values that take precedence, as float32, and their number type in the file."""
    if doubles is not None and doubles.size:
        return doubles.joined(), "float64"
    if floats is not None and floats.size:
        return floats.joined(), "float32"
    if raw is not None:
        return np.ascontiguousarray(as_float32(raw)), raw.dtype.newbyteorder("=").name
    return np.empty(0, np.float32), "float32"


def _raw(
    message: Message, kind: wire.Field | None, payload: wire.Field | None, who: str
) -> np.ndarray | None:
    """A view of NVCaffe's raw bytes; None if the fields are absent or of another fork."""
    if kind is None or payload is None:
        return None
    if kind.wire != wire.VARINT or payload.wire != wire.LENGTH:
        return None
    if kind.value not in RAW_DTYPES:
        raise message.error(kind.start, f"{who}: raw values of type {kind.value} are unknown")
    return message.numbers(payload, RAW_DTYPES[kind.value])


def _shaped(values: np.ndarray, shape: tuple[int, ...], who: str) -> np.ndarray:
    if values.size != prod(shape):
        raise FormatError(
            f"{who} {values.size} values, but its shape {format_shape(shape)} needs {prod(shape)}"
        )
    try:
        return values.reshape(shape)
    except ValueError as error:
        raise FormatError(
            f"{who} {values.size} values, but its shape is invalid: {error}"
        ) from error
