"""The protobuf wire format, read as views into a file and written without assembling it.

A message is a sequence of fields: a key (number and wire type), then a payload. Nothing here
knows what the fields mean, and nothing is copied: a payload is a pair of positions in the file,
so a message may be of any size. Every claimed length is compared with what is left before it is
used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from caffecompat.errors import FormatError

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)
WIDTH = {FIXED32: 4, FIXED64: 8}
MOST_VARINT_BYTES = 10
MOST_NUMBER = 2**29 - 1

Part: TypeAlias = bytes | memoryview


class Field(NamedTuple):
    """One field, or a run of fixed-width fields of the same number.

    Attributes:
        number: the field's number in the schema.
        wire: its wire type.
        value: the number in a varint (unsigned, 64 bits), else 0.
        start, end: the payload's bytes, counted from the start of the file.
        step: distance in bytes between the values of a run of fixed-width fields, else 0.
    """

    number: int
    wire: int
    value: int
    start: int
    end: int
    step: int = 0


@dataclass(frozen=True)
class Message:
    """The bytes ``start`` to ``end`` of ``data``, read as fields.

    Args:
        data: the whole file.
        start, end: the message's place in it.
        path: the file's name, for messages.
        outermost: the message is the file itself. Caffe ends such a message at a zero byte or at
            a stray end mark; here that is accepted only as the last thing in the file, because a
            download that was filled up with zeros must not pass for a net with fewer layers.
    """

    data: memoryview
    start: int
    end: int
    path: str
    outermost: bool = False

    @classmethod
    def whole(cls, data: memoryview, path: str) -> Message:
        return cls(data, 0, len(data), path, outermost=True)

    def fields(self) -> Iterator[Field]:
        """All fields in file order, groups left out.

        Raises:
            FormatError: the bytes are not fields, or are cut off.
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
        return Message(self.data, field.start, field.end, self.path)

    def text(self, field: Field) -> str:
        """A string; bytes that are not UTF-8 survive as surrogates, since Caffe takes them."""
        return bytes(self.data[field.start : field.end]).decode("utf-8", "surrogateescape")

    def numbers(self, field: Field, dtype: str) -> np.ndarray:
        """Fixed-width numbers, packed or not, as a one-dimensional view into the file.

        Args:
            field: a packed field, or a run of fixed-width ones.
            dtype: ``"<f4"`` or ``"<f8"``.

        Raises:
            FormatError: the packed bytes are no whole number of values.
        """
        width = np.dtype(dtype).itemsize
        size = field.end - field.start
        if field.wire == LENGTH:
            if size % width:
                raise self.error(field.start, f"{size} bytes are no whole number of {dtype} values")
            return np.frombuffer(self.data, dtype, size // width, field.start)
        count = (size - width) // field.step + 1
        return np.ndarray((count,), dtype, self.data, field.start, (field.step,))

    def varints(self, field: Field) -> Iterator[int]:
        """Unsigned numbers of a varint field, packed or not."""
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
        key, start = self._varint(at)
        number, wire = key >> 3, key & 7
        if not 0 < number <= MOST_NUMBER:
            raise self.error(at, f"{number} is no field number")
        if wire == VARINT:
            value, end = self._varint(start)
            return Field(number, wire, value, start, end)
        if wire in WIDTH:
            width = WIDTH[wire]
            self._check_room(number, start, width)
            step = start - at + width
            return Field(number, wire, 0, start, start + width + self._run(at, start, step), step)
        if wire == LENGTH:
            size, start = self._varint(start)
            self._check_room(number, start, size)
            return Field(number, wire, 0, start, start + size)
        if wire in (GROUP, END_GROUP):
            return Field(number, wire, 0, start, start)
        raise self.error(at, f"field {number} has wire type {wire}, which does not exist")

    def _check_room(self, number: int, start: int, size: int) -> None:
        if size > self.end - start:
            raise self.error(
                start, f"field {number} claims {size} bytes, but {self.end - start} are left"
            )

    def _run(self, at: int, start: int, step: int) -> int:
        """Bytes of further records with the key found at ``at``: unpacked values, side by side.

        Looks at stretches of doubling length, so that the work is proportional to the run.
        """
        key = np.frombuffer(self.data, np.uint8, start - at, at)
        first = at + step
        length, look = 0, 1
        while True:
            look = min(2 * look, (self.end - first - length) // step)
            if not look:
                return length
            records = np.frombuffer(self.data, np.uint8, look * step, first + length)
            same = (records.reshape(look, step)[:, : len(key)] == key).all(axis=1)
            if not same.all():
                return length + int(same.argmin()) * step
            length += look * step

    def _after_group(self, opening: Field) -> int:
        open_groups, at = [opening.number], opening.end
        while open_groups:
            if at >= self.end:
                raise self.error(at, f"group {open_groups[-1]} is never closed")
            field = self._next(at)
            if field.wire == GROUP:
                open_groups.append(field.number)
            elif field.wire == END_GROUP and field.number != open_groups.pop():
                raise self.error(at, f"group {field.number} ends inside another group")
            at = field.end
        return at

    def _varint(self, at: int) -> tuple[int, int]:
        """The number at ``at``, cut to 64 bits, and the position behind it."""
        value = 0
        last = min(at + MOST_VARINT_BYTES, self.end)
        for index in range(at, last):
            byte = self.data[index]
            value |= (byte & 0x7F) << (7 * (index - at))
            if byte < 0x80:
                return value & (2**64 - 1), index + 1
        if last == self.end:
            raise self.error(at, "the bytes end inside a number")
        raise self.error(at, f"a number is longer than {MOST_VARINT_BYTES} bytes")


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
    """A length-delimited field around ``parts``, which are passed on and not copied."""
    size = sum(len(part) for part in parts)
    return [varint(number << 3 | LENGTH) + varint(size), *parts]


def packed_floats(number: int, array: np.ndarray) -> list[Part]:
    """A packed field of 32-bit floats in C order; an empty array makes no field at all.

    The bytes are those of ``array`` itself where it is contiguous float32, else of a copy.
    """
    if not array.size:
        return []
    flat = np.ascontiguousarray(array, dtype="<f4").reshape(-1)
    return delimited(number, [flat.view(np.uint8).data])
