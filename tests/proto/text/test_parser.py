"""Prototxt text that BVLC Caffe accepts is read as it reads it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import text_format

from caffecompat.errors import TextError, UnknownName
from caffecompat.proto import schema
from caffecompat.proto.text import parser
from caffecompat.proto.text.parse_state import OpenMessage
from caffecompat.proto.text.parser import parse_text


def read(text: str, message: str = "NetParameter") -> Any:
    return parse_text(text, message)[0]


ACCEPTED = [
    "",
    "# only a comment",
    "name: 'a' # a comment at the end, without a newline",
    'name: "a"; force_backward: true,',
    "layer: { name: 'a' } layer < name: 'b' > layer { }",
    "layer { name: 'one' \" and two\" 'three' }",
    r'name: "\x41\102\n\t\\\"\'\303\251"',
    "name: 'déjà vu'",
    "layer { top: ['a', \"b\"] loss_weight: [1, -2.5e-3f, 1.f, .5, 7f, -inf, INFINITY, 1E+2] }",
    "layer { include: [ { phase: TEST }, < phase: 0 stage: [] > ] }",
    "layer { convolution_param { pad: 0x1F pad: 017 pad: 0 pad: 4294967295 } }",
    "layer { param { lr_mult: 99999999999999999999 } clip_param { min: -0 max: 1e60 } }",
    "layer { propagate_down: [true, True, t, 1, false, False, f, 0] }",
    "layer { pooling_param { pool: 2 engine: CUDNN } }",
    "layer { accuracy_param { ignore_label: -2147483648 axis: -1 } }",
    "input_shape { dim: -9223372036854775808 dim: 9223372036854775807 }",
    "layer{blobs{data:1 data:[2,3]double_data:4}}",
    "\tlayer\r\n{\vname\f:\n\n'x'\r\n}\r\n",
    "layers { name: 'v1' type: INNER_PRODUCT blobs_lr: 1 } layers { layer { name: 'v0' } }",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_reads_what_protobuf_reads(text: str) -> None:
    expected = text_format.Parse(text, schema.new("NetParameter"))
    assert read(text) == expected


def test_a_minus_may_stand_apart_from_its_number() -> None:
    """The C++ reader takes it as a token of its own, unlike protobuf's Python reader."""
    net = read("layer { accuracy_param { axis: - 3 } power_param { shift: - # so\n 2.5 } }")
    assert net.layer[0].accuracy_param.axis == -3
    assert net.layer[0].power_param.shift == -2.5


@pytest.mark.parametrize("before", range(230, 260))
def test_a_pair_of_surrogate_escapes_is_one_character(before: int) -> None:
    """As protobuf joins them; wherever a long string is divided into pieces."""
    filler = "a" * before
    text = f'name: "{filler}\\uD83D\\uDE00' + 700 * "b" + '"'
    assert read(text).name == filler + "\U0001f600" + 700 * "b"


def test_escapes_are_bytes_or_code_points() -> None:
    """Explicit, because older versions of protobuf's Python reader know no code points."""
    text = r'name: "\303\251 \xc3\xA9 \u00e9 \U0001F600 \?\a\b\f\v\r\7"'
    assert read(text).name == "\xe9 \xe9 \xe9 \U0001f600 ?\a\b\f\v\r\a"


def test_mycaffes_paths_have_no_escapes() -> None:
    """Only in a message that no other Caffe has; everywhere else a backslash is an escape."""
    inside = r"""tokenized_data_param { source: "C:\temp\new \"x\"\\303é" 'a\b' }"""
    found = read(f"layer {{ {inside} }}")
    assert found.layer[0].tokenized_data_param.source == 'C:\\temp\\new "x"\\303éa\\b'
    assert read(parser.format_text(found)) == found
    with pytest.raises(TextError, match=r"unknown escape sequence \\M"):
        read(r"layer { data_param { source: 'C:\MyCaffe' } }")
    assert (
        read(r"layer { data_param { source: 'C:\temp' } }").layer[0].data_param.source == "C:\temp"
    )


def test_booleans_may_be_any_whole_number_of_zero_and_one() -> None:
    """As in the C++ reader; protobuf's Python reader knows the decimal ones only."""
    assert read("layer { propagate_down: [0x1, 01, 00, 0x0] }").layer[0].propagate_down == [
        True,
        True,
        False,
        False,
    ]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert read("\ufeffname: 'x'").name == "x"


def test_special_numbers() -> None:
    weights = read("layer { loss_weight: [nan, -nan, inf, -0.0, 3.5e38, 1e-50] }")
    nan, minus_nan, infinite, zero, over, under = weights.layer[0].loss_weight
    assert math.isnan(nan)
    assert math.isnan(minus_nan)
    assert infinite == math.inf
    assert math.copysign(1, zero) == -1
    assert over == math.inf
    assert under == 0


def test_bytes_fields_take_any_byte() -> None:
    assert read(r'data: "\377\000a\xfe"', "Datum").data == b"\xff\x00a\xfe"


def test_comments_may_be_in_any_encoding() -> None:
    text = b"# \xce\xe4 comment in GBK\nname: 'x'".decode("utf-8", "surrogateescape")
    assert read(text).name == "x"


def test_set_but_empty_messages_are_kept() -> None:
    layer = read("layer { pooling_param { } }").layer[0]
    assert layer.HasField("pooling_param")
    assert not layer.HasField("convolution_param")


def test_the_source_knows_the_lines_of_layers() -> None:
    text = """name: "n"
layer { name: "a" }

layer {
  type: "ReLU"
  name: "b"
}
layer { name: "a" }
layers { layer { name: "old" } }
"""
    source = parse_text(text, "NetParameter", "dir/net.prototxt")[1]
    assert source.place("a") == "dir/net.prototxt:2"
    assert source.place("b") == "dir/net.prototxt:4"
    assert source.place("a", 1) == "dir/net.prototxt:8"
    assert source.place("old") == "dir/net.prototxt:9"
    assert source.place("a", 2) == source.place("nosuch") == "dir/net.prototxt"


def test_the_source_knows_layers_inside_a_solver() -> None:
    text = "net: 'x'\nnet_param {\n layer { name: 'a' } }"
    assert parse_text(text, "SolverParameter", "s")[1].place("a") == "s:3"


def test_an_unknown_message_is_refused() -> None:
    with pytest.raises(UnknownName, match="NetParameters"):
        parse_text("", "NetParameters")


def test_lenient_reading_lists_what_it_skips() -> None:
    text = """layer { name: "a" nosuch_param { x: [1, { y < > }] z: 'q' 'r' } type: "ReLU" }
fork: -1; other: [a, b],
name: "n"
"""
    net, source = parse_text(text, "NetParameter", "n.prototxt", lenient=True)
    assert net == read('layer { name: "a" type: "ReLU" } name: "n"')
    assert len(source.warnings) == 3
    assert source.warnings[0].startswith("n.prototxt:1:19: layer 'a': skipped: unknown field 'nosu")
    assert source.warnings[2].startswith("n.prototxt:2:11: skipped: unknown field 'other' in NetP")


def test_the_fast_reader_reads_all_fields_of_ordinary_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_the_parser: list[int] = []
    read_field = parser._Parser._read_field

    def note(self: parser._Parser, entry: OpenMessage) -> None:
        by_the_parser.append(entry.start)
        read_field(self, entry)

    monkeypatch.setattr(parser._Parser, "_read_field", note)
    layer = "layer {\n  name: 'c'\n  convolution_param {\n    pad: 1\n    pad: 2\n  }\n}\n"
    assert len(read(layer * 1500).layer) == 1500
    assert by_the_parser == []
    read("name: 'a' 'b'")
    assert len(by_the_parser) == 1, "joined strings are not ordinary"
