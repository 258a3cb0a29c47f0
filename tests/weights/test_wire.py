"""The wire format: what a field is, and that damaged bytes are only ever a FormatError."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffecompat.errors import FormatError
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.wire import Message


def whole(data: bytes) -> Message:
    return Message.whole(memoryview(data), "x.caffemodel")


def inner(data: bytes) -> Message:
    """``data`` as a message that does not end with the file."""
    return Message(memoryview(data), 0, len(data), "x.caffemodel")


def read(message: Message) -> list[wire.Field]:
    return list(message.fields())


def test_each_wire_type() -> None:
    data = b"\x08\x96\x01" + b"\x11abcdefgh" + b"\x1a\x03xyz" + b"\x25wxyz"
    assert read(whole(data)) == [
        wire.Field(1, wire.VARINT, 150, 1, 3),
        wire.Field(2, wire.FIXED64, 0, 4, 12, 9),
        wire.Field(3, wire.LENGTH, 0, 14, 17),
        wire.Field(4, wire.FIXED32, 0, 18, 22, 5),
    ]


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (300, b"\xac\x02"),
        (2**63, b"\x80" * 9 + b"\x01"),
        (-1, b"\xff" * 9 + b"\x01"),
    ],
)
def test_varint_bytes(value: int, raw: bytes) -> None:
    assert wire.varint(value) == raw
    (field,) = read(whole(b"\x08" + raw))
    assert wire.signed(field.value, 64) == (value if value < 2**63 else -(2**63))


def test_overlong_number_is_read_and_an_endless_one_refused() -> None:
    assert read(whole(b"\x08\x85\x80\x00"))[0].value == 5
    with pytest.raises(FormatError, match="byte 1: a number is longer than 10 bytes"):
        read(whole(b"\x08" + b"\xff" * 11))


def test_int32_takes_the_low_bits() -> None:
    assert wire.signed(2**64 - 3, 32) == -3
    assert wire.signed(2**32 + 7, 32) == 7


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x0a\xff\xff\xff\xff\x0fabc", "byte 6: field 1 claims 4294967295 bytes, but 3 are left"),
        (b"\x0e\x00", "byte 0: field 1 has wire type 6"),
        (b"\x0f\x00", "byte 0: field 1 has wire type 7"),
        (b"\x00\x08\x01", "byte 0: 0 is not a field number"),
        (b"\xf8\xff\xff\xff\x1f\x01", "1073741823 is not a field number"),
        (b"\x0b\x08\x01", "byte 3: group 1 is never closed"),
        (b"\x0b\x14", "byte 1: group 2 ends inside another group"),
        (b"\x0c\x08\x01", "byte 0: a group ends that was never begun"),
    ],
)
def test_damaged_bytes_are_named_with_their_place(data: bytes, sentence: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(whole(data))
    assert str(caught.value).startswith("x.caffemodel: byte ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("data", "cut", "damaged"),
    [
        (b"\x08", "at byte 1 inside a number", "byte 1: the bytes end inside a number"),
        (b"\x08\x80", "at byte 2 inside a number", "byte 1: the bytes end inside a number"),
        (b"\x0a\x05abc", "at byte 5 of at least 7", "byte 2: field 1 claims 5 bytes, but 3"),
        (b"\x0d\x00\x00\x00", "at byte 4 of at least 5", "byte 1: field 1 claims 4 bytes"),
    ],
)
def test_a_file_that_ends_early_is_called_cut_off(data: bytes, cut: str, damaged: str) -> None:
    """The outermost message ends with the file; one inside is damaged where it is too short."""
    with pytest.raises(FormatError, match=f"^x.caffemodel: the file is cut off: it ends {cut}"):
        read(whole(data))
    with pytest.raises(FormatError, match=f"^x.caffemodel: {damaged}"):
        read(inner(data))


def test_claims_are_checked_before_anything_is_allocated() -> None:
    claim = b"\x0a" + wire.varint(3_000_000_000) + b"abc"
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="claims 3000000000 bytes, but 3 are left"):
            read(whole(claim))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", [b"\x00", b"\x0c", b"\xa4\x06"])
def test_one_end_mark_may_close_the_file_but_nothing_else(end: bytes) -> None:
    assert len(read(whole(b"\x08\x01" + end))) == 1
    with pytest.raises(FormatError):
        read(whole(b"\x08\x01" + end + b"\x00"))
    with pytest.raises(FormatError):
        read(inner(b"\x08\x01" + end))


def test_groups_are_passed_over_as_deep_as_protobuf_reads_them() -> None:
    def nested(depth: int) -> bytes:
        return b"\x0b" * depth + b"\x0c" * depth + b"\x10\x07"

    assert [(f.number, f.value) for f in read(whole(nested(100)))] == [(2, 7)]
    with pytest.raises(FormatError, match="byte 100: groups are nested deeper than 100"):
        read(whole(nested(101)))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_packed_floats_need_whole_values(size: int) -> None:
    message = whole(b"\x2a" + bytes([size]) + b"\x07" * size)
    with pytest.raises(FormatError, match=f"{size} bytes are not a multiple"):
        message.numbers(read(message)[0], "<f4")


def test_unpacked_values_side_by_side_are_one_strided_view() -> None:
    values = np.arange(1000, dtype="<f4") - 3
    records = b"".join(b"\x2d" + value.tobytes() for value in values)
    message = whole(b"\x08\x01" + records + b"\x35abcd")
    before, run, after = read(message)
    assert (before.number, run.number, after.number) == (1, 5, 6)
    view = message.numbers(run, "<f4")
    assert view.strides == (5,)
    np.testing.assert_array_equal(view, values)


def test_run_with_a_long_key_and_eight_byte_values() -> None:
    values = np.array([1.5, -2.25, 1e300])
    records = b"".join(wire.varint(1001 << 3 | wire.FIXED64) + v.tobytes() for v in values)
    message = whole(records)
    (run,) = read(message)
    np.testing.assert_array_equal(message.numbers(run, "<f8"), values)


def test_names_that_are_not_utf8_survive() -> None:
    data = b"".join(wire.text_field(1, b"caf\xe9".decode("utf-8", "surrogateescape")))
    assert data == b"\x0a\x04caf\xe9"
    message = whole(data)
    (part,) = wire.text_field(1, message.text(read(message)[0]))[1:]
    assert part == b"caf\xe9"


def test_payload_of_contiguous_floats_is_not_copied() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    parts = wire.packed_floats(5, array)
    array[0, 0] = 9
    assert b"".join(parts)[2:] == array.tobytes()
    assert b"".join(wire.packed_floats(5, array.T))[2:] == array.T.tobytes()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    message = whole(data)
    try:
        for field in message.fields():
            assert 0 <= field.start <= field.end <= len(data)
            if field.wire == wire.LENGTH:
                list(message.child(field).fields())
                list(message.varints(field))
    except FormatError:
        pass


@given(
    st.lists(
        st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=40))
    )
)
def test_written_fields_are_read_back(fields: list[tuple[int, int | bytes]]) -> None:
    parts: list[wire.Part] = []
    for number, value in fields:
        if isinstance(value, int):
            parts += wire.number_field(number, value)
        else:
            parts += wire.delimited(number, [value])
    data = b"".join(parts)
    back = [
        (f.number, f.value if f.wire == wire.VARINT else data[f.start : f.end])
        for f in whole(data).fields()
    ]
    assert back == fields
