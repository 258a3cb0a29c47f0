"""Large and hostile prototxts: memory by the byte of text, and the same result at every speed.

The time that a text takes is measured by hand: a test that looks at a clock fails on a busy
machine.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from caffecompat.cli.main import main
from caffecompat.errors import FormatError
from caffecompat.proto import schema
from caffecompat.proto.descriptors import Layout, layout
from caffecompat.proto.text import parser
from caffecompat.proto.text.parser import parse_text
from caffecompat.proto.text.tokens import Tokens
from tests.places import REPOSITORY

MEGABYTES = 4
# Of memory for each byte of text, and once: pages that the interpreter takes as it pleases.
MOST_BYTES = 10
ALLOWANCE = 12_000_000
# Messages without content, 0.7 kB each, may take so much before they are refused.
MESSAGES = 64 * 2**20

SHAPES = {
    "errors on each line": ("", "layer { nosuch: 1 }\n", ""),
    "quotes": ("", '"', ""),
    "joined strings": ("name: ", '"a"', ""),
    "one string": ('name: "', "a", '"'),
    "one string of escapes": ('name: "', "\\n", '"'),
    "one name": ("", "a", ""),
    "one number": ("input_dim: ", "1e+1", ""),
    "nesting": ("", "a { ", ""),
    "comments": ("", "# c\n", ""),
    "line ends": ("", "\n", ""),
    "blanks behind a message": ("layer {}", " ", ""),
    "blanks behind a name": ("layer", " ", "<>"),
    "values": ("layer { blobs { ", "data: 1.0 ", "} }"),
    "a list of values": ("layer { blobs { data: [", "1.0, ", "1] } }"),
    "names": ("layer { ", 'top: "a" ', "}"),
    "a single field again and again": ("", "name: 'n'\n", ""),
    "unknown fields": ("", "nosuch: 1\n", ""),
    "fields in turns": ("", "input: 'a' input_dim: 3\ninput_shape { dim: 3 }\n", ""),
    "unknown blocks": ("nosuch {", "{}", "}"),
    "empty layers": ("", "layer {} ", ""),
    "short layers": (
        "",
        'layer { name: "ip" type: "InnerProduct" bottom: "ip" top: "ip"\n'
        "  inner_product_param { num_output: 10 } }\n",
        "",
    ),
    "layers": (
        "",
        'layer { name: "c" type: "Convolution" bottom: "c" top: "c"\n  convolution_param {\n'
        '    num_output: 3 kernel_size: 3 weight_filler { type: "xavier" }\n  }\n'
        "  param { lr_mult: 1 decay_mult: 1 }\n  param { lr_mult: 2 decay_mult: 0 }\n}\n",
        "",
    ),
}

# A fork for each line of standard input: it has no memory to spare that it could take unseen.
PROGRAM = f"""
import os, sys
from caffecompat.errors import CaffeError
from caffecompat.proto.text.parser import parse_text
def memory(which):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) * 1024
def measure(begin, turn, end, lenient):
    text = begin + turn * ({MEGABYTES} * 10**6 // len(turn)) + end
    before = memory("VmRSS")
    try:
        parse_text(text, "NetParameter", "n", lenient)
    except CaffeError:
        pass
    # What the interpreter had before may be above what it holds now.
    print(max(0, memory("VmHWM") - before), len(text), flush=True)
parse_text("layer {{}} nosuch: 1", "NetParameter", lenient=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        measure(*eval(line))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print("died", flush=True)
"""


@pytest.fixture(scope="module")
def measuring() -> Iterator[subprocess.Popen[str]]:
    """A process that answers each line ``(begin, turn, end, lenient)`` with memory and size."""
    command = [sys.executable, "-c", PROGRAM]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to ask for memory")
@pytest.mark.parametrize(
    ("shape", "lenient"),
    [*((shape, False) for shape in SHAPES), ("unknown blocks", True), ("unknown fields", True)],
)
def test_text_takes_ten_bytes_of_memory_for_each_byte(
    shape: str, lenient: bool, measuring: subprocess.Popen[str]
) -> None:
    assert measuring.stdin is not None
    assert measuring.stdout is not None
    measuring.stdin.write(f"{(*SHAPES[shape], lenient)!r}\n")
    measuring.stdin.flush()
    taken, size = map(int, measuring.stdout.readline().split())
    # The text itself is one of the ten, and stood in memory before.
    allowance = ALLOWANCE + (MESSAGES if shape == "empty layers" else 0)
    assert taken <= (MOST_BYTES - 1) * size + allowance


VALUES = {
    "name": ["'a'", '"b"', "'a' 'b'", r"'\n'", "'é'", "''"],
    "top": ["'a'", '"b"', "['x', \"y\"]", "[]"],
    "loss_weight": ["1", "-2.5e-3", "[1, 2.0, 3.]", ".5f", "inf", "0"],
    "propagate_down": ["true", "0", "[false, t]"],
    "phase": ["TEST", "1"],
}
PARAM = st.sampled_from(
    ["{ lr_mult: 1 }", "{ lr_mult: 1\n decay_mult: 2.5 }", "< name: 'p' >", "{}", ": { # c\n}"]
)
CONVOLUTION = st.sampled_from(
    [
        "{ num_output: 3 pad: 1 pad: 2 pad: 3 }",
        "{ num_output: 3; weight_filler { type: 'xavier' std: 0.01 }, bias_term: false }",
        "{ kernel_size: [3, 3] weight_filler { } engine: CUDNN # }\n }",
        "{ num_output: 4294967295 dilation: 0x10 dilation: 010 }",
    ]
)
REPEATED = {"top", "loss_weight", "propagate_down"}


@st.composite
def layers(draw: st.DrawFn) -> str:
    fields: list[str] = []
    for name in draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=6)):
        if name in REPEATED or not any(field.startswith(name) for field in fields):
            count = draw(st.integers(1, 4)) if name in REPEATED else 1
            fields += [f"{name}: {draw(st.sampled_from(VALUES[name]))}" for _ in range(count)]
    fields += [f"param {draw(PARAM)}" for _ in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        fields.append(f"convolution_param {draw(CONVOLUTION)}")
    between = draw(st.sampled_from([" ", "\n  ", " ; ", ", # comment\n", "\n\n# a\n# b\n"]))
    return "layer " + draw(st.sampled_from(["{ ", ": {\n", "<"])) + between.join(fields)


@given(st.lists(layers(), max_size=5))
def test_fast_and_careful_reading_give_what_protobuf_gives(bodies: list[str]) -> None:
    text = "\n".join(body + ("\n>" if body.startswith("layer <") else "\n}") for body in bodies)
    expected = text_format.Parse(text, schema.new("NetParameter"))
    assert parse_text(text, "NetParameter")[0] == expected


def test_a_message_that_comes_again_is_read_again() -> None:
    """The second of equal texts is a copy, also where the first has lists or comments inside."""
    block = "convolution_param { num_output: 3 weight_filler { type: 'xavier' } pad: [1, 2] # }\n }"
    net = parse_text(f"layer {{ {block} }}\n" * 3, "NetParameter")[0]
    assert [list(layer.convolution_param.pad) for layer in net.layer] == [[1, 2]] * 3
    net.layer[0].convolution_param.num_output = 4
    assert net.layer[1].convolution_param.num_output == 3


def test_a_mistake_in_a_repeated_message_is_reported_each_time() -> None:
    from caffecompat.errors import TextError

    text = "layer { param { lr_mult: 1 lr_mult: 2 } }\n" * 3
    with pytest.raises(TextError) as raised:
        parse_text(text, "NetParameter", "n")
    assert [line.split(":")[1] for line in raised.value.problems] == ["1", "2", "3"]


def test_many_values_of_a_field_are_read_at_once_and_alike() -> None:
    numbers = [0, 1, 12, -3, 0.5, -2.5e-3, 1e30, 3.0] * 700
    written = [repr(number) for number in numbers]
    runs = "".join(f"data: {word}\n" for word in written)
    listed = f"data: [{', '.join(written)}]"
    for body in (runs, listed):
        (blob,) = parse_text(f"layer {{ blobs {{ {body} }} }}", "NetParameter")[0].layer[0].blobs
        assert list(blob.data) == [schema_float(number) for number in numbers]


def schema_float(number: float) -> float:
    blob: Any = schema.new("BlobProto")
    blob.data.append(number)
    return float(blob.data[0])


# Each layer has one field more than the one before, so that none is a copy of another.
UNLIKE = "".join("layer {\n" + "bottom: 'b'\ntop: 't'\n" * n + "}\n" for n in range(20))


@pytest.mark.parametrize(
    ("text", "lenient"),
    [
        ("layer { convolution_param {\n" + "pad: 017\n" * 100 + "} }", False),
        ("layer { convolution_param { pad: [\n" + "0x11,\n" * 300 + "1] } }", False),
        ("layer {\n" + "bottom: 'a'\ntop: 'b'\n" * 200 + "}", False),
        ("input_dim: 3\ninput: 'a'\n" * 5000, False),
        (UNLIKE, False),
        ("name: 'n'\n" + ("a {\n" * 50 + "}\n" * 50) * 3, True),
    ],
    ids=[
        "octal numbers",
        "a list of them",
        "in turns in a layer",
        "in turns",
        "unlike layers",
        "unknown blocks",
    ],
)
def test_what_is_read_one_by_one_has_a_limit(
    text: str, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse_text(text, "NetParameter", "n", lenient)
    monkeypatch.setattr(parser, "_MOST_WORK", 100)
    with pytest.raises(FormatError, match=r"^n:[0-9]{2,4}: .*unlike all others.*--max-bytes"):
        parse_text(text, "NetParameter", "n", lenient)
    read, _ = parse_text(text, "NetParameter", "n", lenient, 1)
    assert read.ByteSize() > 0


def sentence_and_remedy(error: str) -> tuple[str, list[str]]:
    """A message about a limit, and what it says to add to the command."""
    found = re.search(r"add (--max-bytes [0-9]+) \(max_bytes=([0-9]+) in Python\)$", error.strip())
    assert found is not None, error
    assert found[1].endswith(f" {found[2]}")
    return error, found[1].split()


@pytest.mark.parametrize(
    ("constant", "limit", "text"),
    [
        ("_MOST_WORK", 100, UNLIKE.replace("}", "type: 'ReLU' top: 't'\n}")),
        ("CLAIM_ALLOWANCE", 1000, "# é" + "\nlayer { name: 'a' type: 'DummyData' }" * 40),
    ],
)
def test_what_the_message_says_to_add_lifts_the_limit(
    constant: str,
    limit: int,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(parser, constant, limit)
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    command = ["upgrade-net", str(path), str(tmp_path / "out.prototxt")]
    assert main(command) == 1
    _, remedy = sentence_and_remedy(capsys.readouterr().err)
    assert main([*command, *remedy]) == 0
    assert (tmp_path / "out.prototxt").exists()
    with pytest.raises(FormatError) as refused:
        parse_text(text, "NetParameter", "n")
    _, (_, number) = sentence_and_remedy(str(refused.value))
    assert parse_text(text, "NetParameter", "n", max_bytes=int(number))[0].layer


def test_no_message_takes_more_than_the_remedy_assumes() -> None:
    waiting, seen = [layout(schema.new("NetParameter").DESCRIPTOR)], set[Layout]()
    waiting.append(layout(schema.new("SolverParameter").DESCRIPTOR))
    while waiting:
        found = waiting.pop()
        if found not in seen:
            seen.add(found)
            waiting += [one.inside for one in found.fields.values() if one.kind == "message"]
    assert len(seen) > 100
    assert max(found.size for found in seen) < parser._LARGEST_MESSAGE


def test_layers_that_are_alike_are_far_from_that_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "_MOST_WORK", 1_000)
    for shape in ("layers", "short layers", "values", "a list of values"):
        begin, turn, end = SHAPES[shape]
        read, _ = parse_text(begin + turn * 10_000 + end, "NetParameter", "n")
        assert read.ByteSize() > 10_000


def test_lines_are_right_far_into_a_text() -> None:
    text = "# line\n" * 30_000 + "layer { name: 'a' }\n" + "\n" * 70_000 + "layer { name: 'b' }"
    source = parse_text(text, "NetParameter", "n")[1]
    assert source.place("a") == "n:30001"
    assert source.place("b") == "n:100002"


def test_a_long_token_is_one_token() -> None:
    for text in ('"' + "\\n" * 10_000 + '"', "1" + "e+1" * 90, "a" * 100_000):
        token = Tokens(text)
        assert token.word == text
        token.advance()
        assert token.start == len(text)
