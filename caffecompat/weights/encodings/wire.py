"""The protobuf wire format: reading as views into a file, writing as a list of parts.

A message is a sequence of fields; each is a key (number and wire type) and a payload. This module
does not depend on a schema and copies nothing: a payload is a pair of positions in the file, so
messages may have any size. Every length is checked against the remaining bytes before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from caffecompat.errors import FormatError

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)
WIDTH = {FIXED32: 4, FIXED64: 8}
MAX_VARINT_BYTES = 10
MAX_NUMBER = 2**29 - 1
# protobuf's own limits for the size and the nesting of messages.
MAX_BYTES = 2**31
MAX_DEPTH = 100
# Fields parsed one by one in one file; a run of one key counts as one. Far more than any model
# has; parsing them takes a few seconds.
MAX_FIELDS = 400_000
# Adjacent varints of one key form a run from this number on; fewer are separate fields.
MIN_RUN = 64

Part: TypeAlias = bytes | memoryview


class Field(NamedTuple):
    """One field, or a run of adjacent fields of the same number and wire type.

    Attributes:
        number: the field's number in the schema.
        wire: its wire type.
        value: the value of a varint (unsigned, 64 bits), of the last one in a run; else 0.
        start, end: the byte range of the payload in the file.
        step: distance in bytes between the values of a run of fixed-width fields, else 0.
        repeats: number of varints; MIN_RUN or more in a run.
    """

    number: int
    wire: int
    value: int
    start: int
    end: int
    step: int = 0
    repeats: int = 1


class FieldCount:
    """Number of fields that have been parsed in a file."""

    def __init__(self) -> None:
        self.total = 0


@dataclass(frozen=True)
class Message:
    """The bytes ``start`` to ``end`` of ``data``, read as fields.

    Args:
        data: the whole file.
        start, end: the message's byte range in it.
        path: the file's name, for messages.
        outermost: whether the message is the whole file. Caffe ends such a message at a zero byte
            or an unmatched end-group tag. Here either is accepted only at the end of the file,
            because a download padded with zeros must not become a net with fewer layers.
        counted: the field count, shared by all messages of a file.
    """

    data: memoryview
    start: int
    end: int
    path: str
    outermost: bool = False
    counted: FieldCount = field(default_factory=FieldCount)

    @classmethod
    def whole(cls, data: memoryview, path: str) -> Message:
        """The message that a whole file contains."""
        return cls(data, 0, len(data), path, outermost=True)

    def fields(self) -> Iterator[Field]:
        """All fields in file order, without groups.

        Raises:
            FormatError: the bytes are not valid fields, or are cut off.
        """
        at = self.start
        while at < self.end:
            if self.outermost and at == self.end - 1 and self.data[at] == 0:
                return
            field = self._next(at)
            if field.wire == END_GROUP:
                if self.outermost and field.end == self.end:
                    return
                raise self.error(at, "a group ends that was never begun")
            if field.wire == GROUP:
                at = self._after_group(field)
            else:
                yield field
                at = field.end

    def child(self, field: Field) -> Message:
        """The message inside a length-delimited field."""
        return Message(self.data, field.start, field.end, self.path, counted=self.counted)

    def text(self, field: Field) -> str:
        """A string; bytes that are not UTF-8 become surrogates, since Caffe accepts them."""
        return bytes(self.data[field.start : field.end]).decode("utf-8", "surrogateescape")

    def numbers(self, field: Field, dtype: str) -> np.ndarray:
        """Fixed-width numbers, packed or not, as a one-dimensional view into the file.

        Args:
            field: a packed field, or a run of fixed-width ones.
            dtype: ``"<f4"`` or ``"<f8"``.

        Raises:
            FormatError: the packed size is not a multiple of the value size.
        """
        width = np.dtype(dtype).itemsize
        size = field.end - field.start
        if field.wire == LENGTH:
            if size % width:
                raise self.error(
                    field.start, f"{size} bytes are not a multiple of the size of {dtype}"
                )
            return np.frombuffer(self.data, dtype, size // width, field.start)
        count = (size - width) // field.step + 1
        return np.ndarray((count,), dtype, self.data, field.start, (field.step,))

    def varints(self, field: Field) -> Iterator[int]:
        """The unsigned values of a varint field, packed or not; only the last one of a run."""
        if field.wire == VARINT:
            yield field.value
            return
        inside, at = self.child(field), field.start
        while at < field.end:
            value, at = inside._varint(at)
            yield value

    def error(self, at: int, found: str) -> FormatError:
        """A FormatError at byte ``at`` of the file."""
        return FormatError(
            f"{self.path}: byte {at}: {found}; the file is cut off, damaged or of another kind"
        )

    def _next(self, at: int) -> Field:
        self.counted.total += 1
        if self.counted.total > MAX_FIELDS:
            raise FormatError(
                f"{self.path}: byte {at}: it has more than {MAX_FIELDS:,} fields, which no model "
                "has; the file is damaged or of another kind"
            )
        key, start = self._varint(at)
        number, wire = key >> 3, key & 7
        if not 0 < number <= MAX_NUMBER:
            raise self.error(at, f"{number} is not a field number")
        if wire == VARINT:
            value, end = self._varint(start)
            return self._varint_run(at, Field(number, wire, value, start, end))
        if wire in WIDTH:
            width = WIDTH[wire]
            self._check_size(number, start, width)
            step = start - at + width
            return Field(number, wire, 0, start, start + width + self._run(at, start, step), step)
        if wire == LENGTH:
            size, start = self._varint(start)
            self._check_size(number, start, size)
            return Field(number, wire, 0, start, start + size)
        if wire in (GROUP, END_GROUP):
            return Field(number, wire, 0, start, start)
        raise self.error(at, f"field {number} has wire type {wire}, which does not exist")

    def _check_size(self, number: int, start: int, size: int) -> None:
        if size <= self.end - start:
            return
        if self.outermost and start + size <= MAX_BYTES:
            raise FormatError(
                f"{self.path}: the file is cut off: it ends at byte {self.end:,} of at least "
                f"{start + size:,}; get the complete file"
            )
        raise self.error(
            start, f"field {number} claims {size} bytes, but {self.end - start} are left"
        )

    def _varint_run(self, at: int, first: Field) -> Field:
        """``first`` alone, or the run of varints of one key that starts with it at byte ``at``."""
        key = bytes(self.data[at : first.start])
        end, step = first.end, first.end - at
        # One comparison is enough for most fields, which are not in a run.
        if bytes(self.data[end : end + len(key)]) != key:
            return first
        count, value, window = 1, first.value, MIN_RUN * step
        while True:
            records, length, last = self._varint_records(end, key, window)
            if not records:
                break
            count, end = count + records, end + length
            value, _ = self._varint(last)
            window *= 2
        if count < MIN_RUN:
            return first
        return Field(first.number, first.wire, value, first.start, end, repeats=count)

    def _varint_records(self, at: int, key: bytes, window: int) -> tuple[int, int, int]:
        """Complete records of ``key`` and a varint from byte ``at`` on, within ``window`` bytes.

        Returns:
            their number, their length in bytes, and the position of the last value.
        """
        piece = np.frombuffer(self.data, np.uint8, min(window, self.end - at), at)
        # The last byte of each varint; in a run keys and values alternate.
        ends = np.flatnonzero(piece < 0x80)
        values = ends[1::2]
        starts = np.concatenate([[0], values[:-1] + 1])[: len(values)]
        fits = ends[: 2 * len(values) : 2] == starts + (len(key) - 1)
        fits &= values - (starts + len(key)) < MAX_VARINT_BYTES
        for offset, byte in enumerate(key):
            places = np.minimum(starts + offset, len(piece) - 1)
            fits &= piece[places] == byte
        records = len(fits) if fits.all() else int(fits.argmin())
        if not records:
            return 0, 0, 0
        last = int(starts[records - 1]) + len(key)
        return records, int(values[records - 1]) + 1, at + last

    def _run(self, at: int, start: int, step: int) -> int:
        """Length in bytes of the adjacent records after the first with its key (unpacked values).

        Checks stretches of doubling length, so that the work is proportional to the run.
        """
        key = np.frombuffer(self.data, np.uint8, start - at, at)
        first = at + step
        length, count = 0, 1
        while True:
            count = min(2 * count, (self.end - first - length) // step)
            if not count:
                return length
            records = np.frombuffer(self.data, np.uint8, count * step, first + length)
            same = (records.reshape(count, step)[:, : len(key)] == key).all(axis=1)
            if not same.all():
                return length + int(same.argmin()) * step
            length += count * step

    def _after_group(self, opening: Field) -> int:
        open_groups, at = [opening.number], opening.end
        while open_groups:
            if at >= self.end:
                raise self.error(at, f"group {open_groups[-1]} is never closed")
            field = self._next(at)
            if field.wire == GROUP:
                open_groups.append(field.number)
                if len(open_groups) > MAX_DEPTH:
                    raise self.error(at, f"groups are nested deeper than {MAX_DEPTH}")
            elif field.wire == END_GROUP and field.number != open_groups.pop():
                raise self.error(at, f"group {field.number} ends inside another group")
            at = field.end
        return at

    def _varint(self, at: int) -> tuple[int, int]:
        """The varint at ``at``, truncated to 64 bits, and the position after it."""
        if at < self.end and self.data[at] < 0x80:
            return self.data[at], at + 1
        value = 0
        last = min(at + MAX_VARINT_BYTES, self.end)
        for index in range(at, last):
            byte = self.data[index]
            value |= (byte & 0x7F) << (7 * (index - at))
            if byte < 0x80:
                return value & (2**64 - 1), index + 1
        if last == self.end and self.outermost:
            raise FormatError(
                f"{self.path}: the file is cut off: it ends at byte {self.end:,} inside a number; "
                "get the complete file"
            )
        if last == self.end:
            raise self.error(at, "the bytes end inside a number")
        raise self.error(at, f"a number is longer than {MAX_VARINT_BYTES} bytes")


def signed(value: int, bits: int) -> int:
    """The two's complement number in the low ``bits`` bits of a varint."""
    value &= 2**bits - 1
    return value - 2**bits if value >> (bits - 1) else value


def varint(value: int) -> bytes:
    """``value`` as a varint; negative numbers take ten bytes, as protobuf writes them."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_field(number: int, value: int) -> list[Part]:
    """A varint field."""
    return [varint(number << 3 | VARINT) + varint(value)]


def text_field(number: int, text: str) -> list[Part]:
    """A string field; surrogates become the bytes they came from."""
    return delimited(number, [text.encode("utf-8", "surrogateescape")])


def delimited(number: int, parts: Sequence[Part]) -> list[Part]:
    """A length-delimited field around ``parts``, which are not copied."""
    size = sum(len(part) for part in parts)
    return [varint(number << 3 | LENGTH) + varint(size), *parts]


def packed_floats(number: int, array: np.ndarray) -> list[Part]:
    """A packed field of 32-bit floats in C order; no field for an empty array.

    The memory of ``array`` is used if it is contiguous float32, else a copy.
    """
    if not array.size:
        return []
    flat = np.ascontiguousarray(array, dtype="<f4").reshape(-1)
    return delimited(number, [flat.view(np.uint8).data])
