"""Messages print in the style of BVLC Caffe, and read back as they were."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from caffecompat.errors import TextError
from caffecompat.proto import schema
from caffecompat.proto.descriptors import Field, layout
from caffecompat.proto.text.parser import format_text, parse_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1.0, "1"),
        (-0.0, "-0"),
        (1 / 3, "0.333333343"),
        (1e-5, "1e-05"),
        (1e20, "1e+20"),
        (123456789.0, "123456792"),
        (16777216.0, "16777216"),
        (3.4e38, "3.4e+38"),
        (3.4028234663852886e38, "3.40282347e+38"),
        (1e-40, "9.9999461e-41"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
    ],
)
def test_floats_print_as_in_protobuf_3_21(value: float, text: str) -> None:
    layer = schema.new("LayerParameter")
    layer.loss_weight.append(value)
    assert format_text(layer) == f"loss_weight: {text}\n"


def test_doubles_have_their_own_digits() -> None:
    blob = schema.new("BlobProto")
    blob.double_data.extend([0.1, 1 / 3, 2.0])
    assert format_text(blob) == (
        "double_data: 0.1\ndouble_data: 0.33333333333333331\ndouble_data: 2\n"
    )


def test_strings_escape_quotes_and_all_but_ascii() -> None:
    net = schema.new("NetParameter")
    net.name = "q\"uote \\ back\ttab \xe9 \x01 'apos'\n\r"
    assert format_text(net) == (
        'name: "q\\"uote \\\\ back\\ttab \\303\\251 \\001 \\\'apos\\\'\\n\\r"\n'
    )


def test_names_of_binary_files_need_not_be_utf8() -> None:
    net = schema.message_class("NetParameter").FromString(b"\x0a\x02\xff\xfe")
    assert format_text(net) == 'name: "\\377\\376"\n'


def test_fields_print_in_order_of_number_and_defaults_only_if_set() -> None:
    layer = schema.new("LayerParameter")
    layer.pooling_param.pad = 0
    layer.pooling_param.SetInParent()
    layer.include.add().phase = 0
    layer.include.add()
    layer.propagate_down.extend([True, False])
    layer.name = "p"
    assert format_text(layer) == (
        'name: "p"\n'
        "include {\n  phase: TRAIN\n}\n"
        "include {\n}\n"
        "propagate_down: true\n"
        "propagate_down: false\n"
        "pooling_param {\n  pad: 0\n}\n"
    )


def values(target: Field) -> st.SearchStrategy[Any]:
    if target.kind == "message":
        return messages(target.descriptor.name)
    if target.kind == "whole":
        return st.integers(target.low, target.high)
    if target.kind == "enum":
        return st.sampled_from(sorted(target.numbers.values()))
    if target.kind == "float":
        return st.floats(allow_nan=False, width=32)
    if target.kind == "double":
        return st.floats(allow_nan=False)
    if target.kind == "bool":
        return st.booleans()
    return st.binary() if target.kind == "bytes" else st.text()


@st.composite
def messages(draw: st.DrawFn, name: str) -> Any:
    """A message of which a few fields are set, in depth."""
    message = schema.new(name)
    fields = layout(message.DESCRIPTOR)
    if not fields.fields:
        return message
    chosen = draw(st.lists(st.sampled_from(sorted(fields.fields)), max_size=3, unique=True))
    for field_name in {*chosen, *fields.required}:
        target = fields.fields[field_name]
        if target.repeated:
            many = draw(st.lists(values(target), max_size=3))
            getattr(message, field_name).extend(many)
        elif target.kind == "message":
            getattr(message, field_name).CopyFrom(draw(values(target)))
        else:
            setattr(message, field_name, draw(values(target)))
    return message


@pytest.mark.parametrize("name", ["NetParameter", "SolverParameter", "Datum", "SolverState"])
def test_what_is_printed_reads_back(name: str) -> None:
    @settings(database=None)
    @given(messages(name))
    def check(message: Any) -> None:
        text = format_text(message)
        assert parse_text(text, name)[0] == message
        assert text_format.Parse(text, schema.new(name)) == message
        # And the other way round: what protobuf prints is read alike.
        printed = text_format.MessageToString(message)
        assert parse_text(printed, name)[0] == message

    check()


@settings(database=None)
@given(st.integers(0, 2**32 - 1))
def test_every_float_reads_back(bits: int) -> None:
    value = struct.unpack("<f", struct.pack("<I", bits))[0]
    layer = schema.new("LayerParameter")
    layer.loss_weight.append(value)
    again = parse_text(format_text(layer), "LayerParameter")[0].loss_weight[0]
    assert again == value or (again != again and value != value)


@settings(database=None)
@given(st.text(alphabet="{}<>[]:;,-#'\"\\\n nametoplayer012.ex"))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    problems: tuple[str, ...] = ()
    try:
        parse_text(text, "NetParameter")
    except TextError as error:
        problems = error.problems
    assert all(sentence.startswith("<text>:") for sentence in problems)
