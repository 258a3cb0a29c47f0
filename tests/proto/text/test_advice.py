"""A text that is refused, changed as its message says, is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.errors import TextError
from caffecompat.proto import files
from caffecompat.proto.text.parser import parse_text


def read(text: str, message: str = "NetParameter") -> Any:
    return parse_text(text, message, "n.prototxt")[0]


def refused(text: str, message: str = "NetParameter") -> str:
    with pytest.raises(TextError) as caught:
        read(text, message)
    return str(caught.value)


# A text, the words that say what to do, and the text as they want it.
FIELDS = [
    (
        "layer { convolution_param { kernal_size: 3 } }",
        "unknown field 'kernal_size' in convolution_param; did you mean 'kernel_size'?",
        ["layer { convolution_param { kernel_size: 3 } }"],
    ),
    (
        "layer { poling_param { pool: AVE } }",
        "unknown field 'poling_param'; did you mean 'pooling_param'?",
        ["layer { pooling_param { pool: AVE } }"],
    ),
    (
        "layer { round_mode: FLOOR }",
        "unknown field 'round_mode'; it belongs inside pooling_param",
        ["layer { pooling_param { round_mode: FLOOR } }"],
    ),
    (
        "layer { num_output: 3 }",
        "unknown field 'num_output'; it belongs inside one of convolution_param, ",
        [
            f"layer {{ {name} {{ num_output: 3 }} }}"
            for name in ("convolution_param", "embed_param")
        ],
    ),
    (
        "layer { pooling_param { pad: 1 top: 'x' } }",
        "it belongs to layer: is the '}' that closes pooling_param missing before it?",
        ["layer { pooling_param { pad: 1 } top: 'x' }"],
    ),
    (
        "layer { permute_param { order: 1 } norm_param { } }",
        "which belong to different layer types; remove the one that its type does not use",
        ["layer { norm_param { } }", "layer { permute_param { order: 1 } }"],
    ),
    ("layer { clip_param { min: 1 } }", "needs max", ["layer { clip_param { min: 1 max: 2 } }"]),
    (
        "layer { clip_param { } }",
        "clip_param needs min and max",
        ["layer { clip_param { min: 1 max: 2 } }"],
    ),
    ("name: 'a' name: 'b'", "name is given twice in NetParameter, first on line 1", ["name: 'b'"]),
]
VALUES = [
    (
        "layer { pooling_param { pool: AVG } }",
        "pool has no value 'AVG'; did you mean 'AVE'?",
        ["layer { pooling_param { pool: AVE } }"],
    ),
    (
        "layer { pooling_param { pool: 3 } }",
        "pool has no value 3; known: 0 (MAX), 1 (AVE), 2 (STOCHASTIC)",
        [f"layer {{ pooling_param {{ pool: {pool} }} }}" for pool in (0, "AVE", 2)],
    ),
    (
        "layers { type: 'ReLU' }",
        "type takes a name without quotes, found the string 'ReLU'; did you mean 'RELU'?",
        ["layers { type: RELU }"],
    ),
    (
        "layer { type: RELU }",
        'such names are for the old layers { }, write type: "ReLU"',
        ['layer { type: "ReLU" }', "layers { type: RELU }"],
    ),
    ("name: net", 'name takes a string in quotes, found net; write name: "net"', ['name: "net"']),
    (
        "layer { pooling_param { kernel_size: 1.5 } }",
        "kernel_size takes a whole number, found 1.5",
        ["layer { pooling_param { kernel_size: 1 } }"],
    ),
    (
        "layer { pooling_param { kernel_size: -3 } }",
        "kernel_size is -3, out of its range 0 to 4294967295",
        [f"layer {{ pooling_param {{ kernel_size: {size} }} }}" for size in (0, 4294967295)],
    ),
    (
        "layer { loss_weight: 0x10 }",
        "loss_weight takes a decimal number, found 0x10",
        ["layer { loss_weight: 16 }"],
    ),
    ("force_backward: yes", "takes true or false, found yes", ["force_backward: true"]),
    (
        "layer { pooling_param { kernel_h: [3, 3] } }",
        "kernel_h takes one value, found a list",
        ["layer { pooling_param { kernel_h: 3 } }"],
    ),
    ("name { x: 1 }", "name is no message; write name: and a value", ["name: 'x'"]),
    ("state: 3", "state is a message: expected '{', found 3", ["state { level: 3 }"]),
    ("layer { name 'x' }", "the ':' between name and its value is missing", ["layer{name: 'x'}"]),
    (
        "layer {\u200b name: 'x' }",
        "found zero width space (U+200B); write an ordinary space instead of it",
        ["layer {  name: 'x' }"],
    ),
    (
        "layer { name:\u00a0'x' }",
        "found no-break space (U+00A0); write an ordinary space instead of it",
        ["layer { name: 'x' }"],
    ),
    ("layer { name }", "name needs ':' and a value", ["layer { name: 'x' }"]),
]
STRINGS = [
    (
        "name: \u201cnet\u201d",
        'name has curly quotes; write straight ones: name: "net"',
        ['name: "net"'],
    ),
    (
        r'name: "C:\dir"',
        r"name has an unknown escape sequence \d; write \\ for a backslash",
        [r'name: "C:\\dir"'],
    ),
    (
        "name: 'net",
        "found a string without its closing quote: 'net",
        ["name: 'net'"],
    ),
    (
        "layer { top: ['a' 'b', 'c' }",
        "expected ',' or ']' in the list of top, found }",
        ["layer { top: ['a' 'b', 'c' ] }", "layer { top: ['a' 'b', 'c', 'd'] }"],
    ),
    (
        "name: 'a\0b'",
        "found a zero byte, which text never has; the file is damaged, get it anew",
        ["name: 'ab'"],
    ),
]
BRACES = [
    ("layer { } }", "found '}', expected a field name; check the braces above", ["layer { }"]),
    (
        "layer { name: 'x' >",
        "found '>', expected the '}' of layer; check the braces above",
        ["layer { name: 'x' }"],
    ),
    ("nosuch { ]", "found ']', which closes nothing; check the braces", ["layer { }"]),
    ("layer { name: 'x'", "layer, opened on line 1, is never closed", ["layer { name: 'x' }"]),
    (
        "layer {\n  name: 'x' }\n  type: 'ReLU'\n}\n",
        "belongs inside it; remove it, or give it its '{'",
        ["layer {\n  name: 'x'\n  type: 'ReLU'\n}\n"],
    ),
    (
        "layer {\n  name: 'x'\n  pad: 1 }\n  type: 'ReLU'\n}\n",
        "belongs inside it; remove it, or give it its '{'",
        ["layer {\n  name: 'x'\n  pooling_param { pad: 1 }\n  type: 'ReLU'\n}\n"],
    ),
    (
        "layer {\n  param {\n    lr_mult: 1\n  param {\n    lr_mult: 2\n  }\n}\n",
        "the '}' that closes param, opened on line 2, is missing before this param",
        ["layer {\n  param {\n    lr_mult: 1\n  }\n  param {\n    lr_mult: 2\n  }\n}\n"],
    ),
]


@pytest.mark.parametrize(("bad", "words", "remedies"), [*FIELDS, *VALUES, *STRINGS, *BRACES])
def test_mistakes(bad: str, words: str, remedies: list[str]) -> None:
    assert words in refused(bad)
    for good in remedies:
        read(good)


NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 } %s }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }
"""
# A field that no Caffe is known to have, and one of a fork.
UNKNOWN_FIELDS = [
    ("weighting_param { }", "; a field of another Caffe version?"),
    ("connectivity_mode: X", "; from the Caffe of SSL, where it removes weights that are zero "),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("field", "words"), UNKNOWN_FIELDS)
def test_unknown_fields(
    here: None, capsys: pytest.CaptureFixture[str], field: str, words: str
) -> None:
    remedy = " Remove it; summary, graph, train, test and time pass over it with --lenient"
    Path("net.prototxt").write_text(NET % field)
    Path("solver.prototxt").write_text("net: 'net.prototxt' base_lr: 0.1 lr_policy: 'fixed'")
    verbs = [
        "summary net.prototxt",
        "graph net.prototxt",
        "train --solver solver.prototxt --no-log --cpu",
        "test --model net.prototxt --weights net.caffemodel --iterations 1",
        "time --model net.prototxt --iterations 1",
    ]
    for verb in verbs:
        assert main(verb.split()) == 1
        said = capsys.readouterr().err
        assert words in said
        assert remedy in said
        if verb.startswith("test"):
            Net("net.prototxt", lenient=True).save("net.caffemodel")
        assert main([*verb.split(), "--lenient"]) == 0, capsys.readouterr().err
    Path("net.prototxt").write_text(NET % "")
    assert main(verbs[0].split()) == 0


def test_bytes_that_are_not_utf_8(here: None) -> None:
    content = "name: 'f\u00e4hre'".encode("latin-1")
    Path("net.prototxt").write_bytes(content)
    with pytest.raises(TextError, match=r"is not valid UTF-8: .*; save the file as UTF-8"):
        files.read_net("net.prototxt")
    Path("net.prototxt").write_bytes(content.decode("latin-1").encode("utf-8"))
    assert files.read_net("net.prototxt")[0].name == "f\u00e4hre"
