"""Each mistake in prototxt text gets one sentence with its place and the way out."""

from __future__ import annotations

import pytest

from caffecompat.errors import TextError
from caffecompat.proto.text import parse_text


def problems(text: str, message: str = "NetParameter", lenient: bool = False) -> tuple[str, ...]:
    with pytest.raises(TextError) as raised:
        parse_text(text, message, "n.prototxt", lenient)
    return raised.value.problems


# The text, and the one sentence it must give, after "n.prototxt:".
MISTAKES = [
    # names
    (
        "layer {\n name: 'c'\n convolution_param { kernal_size: 3 }\n}",
        "3:22: layer 'c': unknown field 'kernal_size' in convolution_param; "
        "did you mean 'kernel_size'?",
    ),
    (
        "layer { name: 'c' weighting_param { } }",
        "1:19: layer 'c': unknown field 'weighting_param'; a field of another Caffe version? "
        "Remove it; summary, graph, train, test and time pass over it with --lenient",
    ),
    (
        "layer { poling_param { pool: AVE } }",
        "1:9: unknown field 'poling_param'; did you mean 'pooling_param'?",
    ),
    (
        "layer { name: 'p' round_mode: FLOOR }",
        "1:19: layer 'p': unknown field 'round_mode'; it belongs inside pooling_param",
    ),
    (
        "layer { name: 'p' pooling_param { pad: 1 top: 'x' } }",
        "1:42: layer 'p': unknown field 'top' in pooling_param; it belongs to layer: "
        "is the '}' that closes pooling_param missing before it?",
    ),
    (
        "names: 'x'",
        "1:1: unknown field 'names' in NetParameter; did you mean 'name'?",
    ),
    (
        "layer { pooling_param { pool: AVG } }",
        "1:31: pool has no value 'AVG'; did you mean 'AVE'?",
    ),
    (
        "layer { pooling_param { pool: 3 } }",
        "1:31: pool has no value 3; known: 0 (MAX), 1 (AVE), 2 (STOCHASTIC)",
    ),
    (
        "layers { name: 'l' type: XCONV }",
        "1:26: layer 'l': type has no value 'XCONV'; a value of another Caffe version?",
    ),
    # kinds of values
    (
        "layer { name: 'r' type: RELU }",
        "1:25: layer 'r': type takes a string in quotes, found RELU; such names are for the old "
        'layers { }, write type: "ReLU"',
    ),
    (
        "layers { name: 'r' type: \"ReLU\" }",
        "1:26: layer 'r': type takes a name without quotes, found the string \"ReLU\"; "
        "did you mean 'RELU'?",
    ),
    ("name: net", '1:7: name takes a string in quotes, found net; write name: "net"'),
    (
        "layer { pooling_param { kernel_size: '3' } }",
        "1:38: kernel_size takes a whole number, found the string '3'",
    ),
    (
        "layer { pooling_param { kernel_size: 1.5 } }",
        "1:38: kernel_size takes a whole number, found 1.5",
    ),
    (
        "layer { pooling_param { kernel_size: 08 } }",
        "1:38: kernel_size takes a whole number, found 08",
    ),
    (
        "layer { pooling_param { kernel_h: [3, 3] } }",
        "1:25: kernel_h takes one value, found a list",
    ),
    (
        "layer { pooling_param { kernel_size: -3 } }",
        "1:38: kernel_size is -3, out of its range 0 to 4294967295",
    ),
    (
        "layer { pooling_param { kernel_size: 4294967296 } }",
        "1:38: kernel_size is 4294967296, out of its range 0 to 4294967295",
    ),
    (
        "layer { accuracy_param { axis: 2147483648 } }",
        "1:32: axis is 2147483648, out of its range -2147483648 to 2147483647",
    ),
    ("layer { loss_weight: 0x10 }", "1:22: loss_weight takes a decimal number, found 0x10"),
    ("layer { loss_weight: 1.5.2 }", "1:22: loss_weight takes a number, found 1.5.2"),
    ("layer { loss_weight: 12ab }", "1:22: loss_weight takes a number, found 12ab"),
    ("layer { loss_weight: one }", "1:22: loss_weight takes a number, found one"),
    ("force_backward: yes", "1:17: force_backward takes true or false, found yes"),
    ("force_backward: 2", "1:17: force_backward takes true or false, found 2"),
    ("force_backward: -1", "1:17: force_backward takes true or false, found -1"),
    ("state: 3", "1:8: state is a message: expected '{', found 3"),
    ("name { x: 1 }", "1:1: name is no message; write name: and a value"),
    ("name: { x: 1 }", "1:7: name takes a string in quotes, found {"),
    # repetition and requirements
    (
        "name: 'a'\n\nname: 'b'",
        "3:1: name is given twice in NetParameter, first on line 1",
    ),
    (
        "state { level: 1 }\nstate { stage: 'x' }",
        "2:1: state is given twice in NetParameter, first on line 1",
    ),
    (
        "layer {\n name: 'c' clip_param {\n min: 1 } }",
        "2:12: layer 'c': clip_param needs max",
    ),
    ("layer { clip_param { } }", "1:9: clip_param needs min and max"),
    # strings
    (
        "name: \"abc\nlayer { name: 'x' }",
        '1:7: name takes a string in quotes, found a string without its closing quote: "abc',
    ),
    (
        r'name: "C:\dir"',
        r"1:7: name has an unknown escape sequence \d; write \\ for a backslash",
    ),
    (
        "name: '\udcff\udcfe'",
        "1:7: name is not valid UTF-8: b'\\xff\\xfe'; save the file as UTF-8",
    ),
    ("name: '\ud800'", "1:7: name is not valid UTF-8: b'\\xed\\xa0\\x80'; save the file as UTF-8"),
    (
        r"name: '\ud800'",
        r"1:7: name has an unknown escape sequence \ud800; write \\ for a backslash",
    ),
    # structure
    ("layer { name 'x' }", "1:9: the ':' between name and its value is missing"),
    ("name", "1:1: name needs ':' and a value"),
    ("name:", "1:6: name takes a string in quotes, found the end of the file"),
    ("layer {\n name: 'x'\n", "1:1: layer 'x': layer, opened on line 1, is never closed"),
    ("layer { } }", "1:11: found '}', expected a field name; check the braces above"),
    (
        "layer { name: 'x' >",
        "1:19: layer 'x': found '>', expected the '}' of layer; check the braces above",
    ),
    (
        "layer { top: ['a' 'b', 'c' }",
        "1:28: expected ',' or ']' in the list of top, found }",
    ),
    ("name: 'a';; ", "1:11: expected a field name, found ;"),
    ("layer { \x00 }", "1:9: expected a field name, found '\\x00'"),
    ("This is prose", "1:1: expected ':' or '{' after This, found is; is this prototxt?"),
]


@pytest.mark.parametrize(("text", "sentence"), MISTAKES)
def test_each_mistake_has_its_sentence(text: str, sentence: str) -> None:
    assert problems(text) == (f"n.prototxt:{sentence}",)


def test_all_independent_mistakes_come_together() -> None:
    text = """layer { name: "conv1" type: "Convolution" bottom: "x"
  convolution_param { num_outputs: 3 kernel_size: -3 engine: CUDDN bias_term: yes }
  nosuch < deep { deeper: [ { a: 1 }, { } ] } >
  top: "y" top 'z'
}
layer { name: "clip" clip_param { min: one } }
fork: 7
"""
    found = problems(text)
    places = [sentence.removeprefix("n.prototxt:").split(": ")[0] for sentence in found]
    assert places == ["2:23", "2:51", "2:62", "2:79", "3:3", "4:12", "6:22", "6:40", "7:1"]


def test_a_missing_brace_is_seen_where_it_is_missing() -> None:
    found = problems('layer { name: "a"\n  type: "ReLU"\nlayer { name: "b" }\n')
    assert len(found) == 2
    assert "layer, opened on line 1, is never closed" in found[0]
    assert found[1].startswith("n.prototxt:3:1: layer 'a': unknown field 'layer'; it belongs to ")


def test_lenient_reading_forgives_unknown_fields_only() -> None:
    found = problems("fork: 1 layer { pooling_param { pool: AVG ceil: 1 } }", lenient=True)
    assert [sentence.split(": ", 1)[1] for sentence in found] == [
        "pool has no value 'AVG'; did you mean 'AVE'?"
    ]


@pytest.mark.parametrize("text", ["a" + " { a" * 10**6, "a: " + "[" * 10**6, "a <" * 10**6])
def test_deep_nesting_is_a_sentence(text: str) -> None:
    assert problems(text)[-1].endswith("messages are nested more than 100 deep")


def test_very_long_numbers_are_a_sentence() -> None:
    long = "1" * 10**6
    text = f"input_dim: {long} layer {{ propagate_down: {long} pooling_param {{ pool: {long} }} }}"
    found = problems(text)
    assert len(found) == 3
    assert all(len(sentence) < 200 for sentence in found)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        ("\n<!DOCTYPE html>\n<html>", "a web page"),
        ("{\n  'name': 3}", "JSON"),
        ("base_lr: 0.1\nnet: 'n'\nmax_iter: 3", "looks like a solver (base_lr, max_iter, net)"),
    ],
)
def test_a_file_of_another_kind_is_recognised(text: str, sentence: str) -> None:
    (found,) = problems(text)
    assert found.startswith("n.prototxt: this ")
    assert sentence in found


def test_a_net_in_the_place_of_a_solver_is_recognised() -> None:
    (found,) = problems("name: 'n' layer { name: 'a' }", "SolverParameter")
    assert found.startswith("n.prototxt: this looks like a net (layer), a solver was expected; ")


def test_a_misspelt_net_is_not_taken_for_a_solver() -> None:
    assert "did you mean 'layer'?" in problems("name: 'n' layr { }")[0]
