"""The protobuf wire format, read as views into a file and written without assembling it.

A message is a sequence of fields: a key (number and wire type), then a payload. Nothing here
knows what the fields mean, and nothing is copied: a payload is a pair of positions in the file,
so a message may be of any size. Every claimed length is compared with what is left before it is
used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from caffecompat.errors import FormatError

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)
WIDTH = {FIXED32: 4, FIXED64: 8}
MOST_VARINT_BYTES = 10
MOST_NUMBER = 2**29 - 1
# protobuf reads no message of 2 GiB and none that is nested deeper.
MOST_BYTES = 2**31
MOST_DEPTH = 100
# Fields of one file that are looked at one by one; a run of one key counts as one. No model comes
# near that, and so many take a few seconds.
MOST_FIELDS = 400_000
# So many varints of one key, side by side, are a run; shorter ones come one by one.
SHORTEST_RUN = 64

Part: TypeAlias = bytes | memoryview


class Field(NamedTuple):
    """One field, or a run of fields of the same number and wire type, side by side.

    Attributes:
        number: the field's number in the schema.
        wire: its wire type.
        value: the number in a varint (unsigned, 64 bits), the last one of a run; else 0.
        start, end: the payload's bytes, counted from the start of the file.
        step: distance in bytes between the values of a run of fixed-width fields, else 0.
        repeats: how many varints; a run has SHORTEST_RUN or more.
    """

    number: int
    wire: int
    value: int
    start: int
    end: int
    step: int = 0
    repeats: int = 1


class FieldCount:
    """How many fields of a file have been looked at one by one."""

    def __init__(self) -> None:
        self.total = 0


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
        counted: shared by all messages of a file.
    """

    data: memoryview
    start: int
    end: int
    path: str
    outermost: bool = False
    counted: FieldCount = field(default_factory=FieldCount)

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
        return Message(self.data, field.start, field.end, self.path, counted=self.counted)

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
        """Unsigned numbers of a varint field, packed or not; of a run the last one."""
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
        if self.counted.total > MOST_FIELDS:
            raise FormatError(
                f"{self.path}: byte {at}: it has more than {MOST_FIELDS:,} fields, which no model "
                "has; the file is damaged or of another kind"
            )
        key, start = self._varint(at)
        number, wire = key >> 3, key & 7
        if not 0 < number <= MOST_NUMBER:
            raise self.error(at, f"{number} is no field number")
        if wire == VARINT:
            value, end = self._varint(start)
            return self._varint_run(at, Field(number, wire, value, start, end))
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
        if size <= self.end - start:
            return
        if self.outermost and start + size <= MOST_BYTES:
            raise FormatError(
                f"{self.path}: the file is cut off: it ends at byte {self.end:,} of at least "
                f"{start + size:,}; get it anew, whole"
            )
        raise self.error(
            start, f"field {number} claims {size} bytes, but {self.end - start} are left"
        )

    def _varint_run(self, at: int, first: Field) -> Field:
        """``first``, or the run of varints of one key that begins with it at byte ``at``."""
        key = bytes(self.data[at : first.start])
        end, step = first.end, first.end - at
        # Most fields stand alone: one comparison tells.
        if bytes(self.data[end : end + len(key)]) != key:
            return first
        count, value, room = 1, first.value, SHORTEST_RUN * step
        while True:
            records, length, last = self._varint_records(end, key, room)
            if not records:
                break
            count, end = count + records, end + length
            value, _ = self._varint(last)
            room *= 2
        if count < SHORTEST_RUN:
            return first
        return Field(first.number, first.wire, value, first.start, end, repeats=count)

    def _varint_records(self, at: int, key: bytes, room: int) -> tuple[int, int, int]:
        """Whole records of ``key`` and a varint from byte ``at`` on, within ``room`` bytes.

        Returns:
            their number, their length in bytes, and the place of the last value.
        """
        piece = np.frombuffer(self.data, np.uint8, min(room, self.end - at), at)
        # The last byte of each varint; those of keys and values take turns in a run.
        ends = np.flatnonzero(piece < 0x80)
        values = ends[1::2]
        starts = np.concatenate([[0], values[:-1] + 1])[: len(values)]
        fits = ends[: 2 * len(values) : 2] == starts + (len(key) - 1)
        fits &= values - (starts + len(key)) < MOST_VARINT_BYTES
        for offset, byte in enumerate(key):
            places = np.minimum(starts + offset, len(piece) - 1)
            fits &= piece[places] == byte
        records = len(fits) if fits.all() else int(fits.argmin())
        if not records:
            return 0, 0, 0
        last = int(starts[records - 1]) + len(key)
        return records, int(values[records - 1]) + 1, at + last

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
                if len(open_groups) > MOST_DEPTH:
                    raise self.error(at, f"groups are nested deeper than {MOST_DEPTH}")
            elif field.wire == END_GROUP and field.number != open_groups.pop():
                raise self.error(at, f"group {field.number} ends inside another group")
            at = field.end
        return at

    def _varint(self, at: int) -> tuple[int, int]:
        """The number at ``at``, cut to 64 bits, and the position behind it."""
        if at < self.end and self.data[at] < 0x80:
            return self.data[at], at + 1
        value = 0
        last = min(at + MOST_VARINT_BYTES, self.end)
        for index in range(at, last):
            byte = self.data[index]
            value |= (byte & 0x7F) << (7 * (index - at))
            if byte < 0x80:
                return value & (2**64 - 1), index + 1
        if last == self.end and self.outermost:
            raise FormatError(
                f"{self.path}: the file is cut off: it ends at byte {self.end:,} inside a number; "
                "get it anew, whole"
            )
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
