"""BlobProto, the one shape of every array in Caffe's binary files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.weights import wire
from caffecompat.weights.weights import as_float32
from caffecompat.weights.wire import Message, Part

# Field numbers of BlobProto; the four old sizes are 1 to 4.
LEGACY = (1, 2, 3, 4)
DATA, DIFF, SHAPE, DOUBLE_DATA, DOUBLE_DIFF = 5, 6, 7, 8, 9
DTYPES = {DATA: "<f4", DIFF: "<f4", DOUBLE_DATA: "<f8", DOUBLE_DIFF: "<f8"}
PACKED_OR_LOOSE = {
    "<f4": (wire.LENGTH, wire.FIXED32),
    "<f8": (wire.LENGTH, wire.FIXED64),
}
# NVCaffe's additions: bytes with a type beside. Other forks use these numbers for other things,
# in other wire types.
RAW_DATA_TYPE, RAW_DIFF_TYPE, RAW_DATA, RAW_DIFF = 10, 11, 12, 13
RAW_DTYPES = {0: "<f8", 1: "<f4", 2: "<f2", 3: "<i4", 4: "<u4"}
DIM = 1
MOST_AXES = 32
# Loose values between other fields come one by one; so many are joined at a time.
HANDFUL = 4096


@dataclass(frozen=True)
class Blob:
    """One array, its gradient if the file has it, and whether the old four sizes gave its shape.

    ``stored`` names the numbers in the file ("float32"), ``raw`` says that they stand in NVCaffe's
    own fields.
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
        if len(self._pieces) >= HANDFUL:
            self._joined.append(np.concatenate(self._pieces))
            self._pieces = []

    def joined(self) -> np.ndarray:
        """All values as float32; one packed piece of floats stays a view into the file."""
        pieces = self._joined + self._pieces
        values = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, "<f4"), *pieces])
        return np.ascontiguousarray(as_float32(values))


def read_blob(message: Message, who: str) -> Blob:
    """Reads a BlobProto. Sources: Caffe's Blob::FromProto and Blob::ShapeEquals.

    One packed piece of floats becomes a view into the file; values in double precision, unpacked
    or in pieces are copied together. The double values count where both kinds are there. One of
    the old sizes is enough for the ``shape`` field to be ignored. NVCaffe's raw bytes of any type
    count where neither kind is there. Source: NVCaffe's Blob::FromProto.

    Args:
        message: the BlobProto.
        who: which blob this is, for messages ("layer 'fc6' (InnerProduct): blob 0").

    Raises:
        FormatError: damaged, or another number of values than the shape needs.
    """
    values: dict[int, _Values] = {}
    sizes: dict[int, int] = {}
    dims: list[int] = []
    raw: dict[int, wire.Field] = {}
    for field in message.fields():
        if field.number in LEGACY and field.wire == wire.VARINT:
            sizes[field.number] = wire.signed(field.value, 32)
        elif field.number == SHAPE and field.wire == wire.LENGTH:
            dims += _dims(message.child(field), who, MOST_AXES - len(dims))
        elif field.number in DTYPES:
            dtype = DTYPES[field.number]
            if field.wire in PACKED_OR_LOOSE[dtype]:
                values.setdefault(field.number, _Values()).add(message.numbers(field, dtype))
        elif field.number in (RAW_DATA_TYPE, RAW_DIFF_TYPE, RAW_DATA, RAW_DIFF):
            raw[field.number] = field
    shape = tuple(sizes.get(axis, 0) for axis in LEGACY) if sizes else tuple(dims)
    place = f"{message.path}: {who} (byte {message.start})"
    if min(shape, default=0) < 0:
        raise FormatError(f"{place}: its shape is {_show(shape)}, with a negative extent")
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
    """A BlobProto's bytes in pieces; the values are the arrays' own memory where that is float32.

    A ``legacy`` blob of four axes is written with the old sizes, because that is what lets Caffe
    accept 1x1xNxK for the parameter of an N x K layer; all others get a ``shape``.
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


def _dims(message: Message, who: str, room: int) -> Iterator[int]:
    """The extents of a BlobShape, at most ``room`` of them: a damaged list may have millions."""
    for field in message.fields():
        if field.number != DIM or field.wire not in (wire.VARINT, wire.LENGTH):
            continue
        if field.repeats > room:
            raise message.error(field.start, f"{who} has more than {MOST_AXES} axes")
        for value in message.varints(field):
            if not room:
                raise message.error(field.start, f"{who} has more than {MOST_AXES} axes")
            room -= 1
            yield wire.signed(value, 64)


def _first(
    doubles: _Values | None, floats: _Values | None, raw: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """The values that count, as float32, and the name of the type they are stored in."""
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
    """A view of NVCaffe's raw bytes; None where the fields are not there or are another fork's."""
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
            f"{who} {values.size} values, but its shape {_show(shape)} needs {prod(shape)}"
        )
    try:
        return values.reshape(shape)
    except ValueError as error:
        raise FormatError(
            f"{who} {values.size} values, but its shape is absurd: {error}"
        ) from error


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"
