"""Each mistake in prototxt text gets one sentence with its place and the remedy."""

from __future__ import annotations

import pytest

from caffecompat.errors import FormatError, TextError
from caffecompat.proto.text.parser import parse_text


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
    (
        "layer { name: 'p' permute_param { order: 1 }\n norm_param { } }",
        "2:2: layer 'p': a layer can have only one of permute_param (line 1) and norm_param, which "
        "belong to different layer types; remove the one that its type does not use",
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


NET = """\
name: "n"
layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape: { dim: 1 dim: 3 } }
}
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  param {
    lr_mult: 1
  }
  param {
    lr_mult: 2
  }
  convolution_param {
    num_output: 4
    kernel_size: 3
    weight_filler {
      type: "xavier"
    }
    bias_filler {
      type: "constant"
    }
  }
}
layer {
  name: "relu"
  type: "ReLU"
  bottom: "conv"
  top: "conv"
}
"""


def test_one_damaged_brace_or_quote_is_one_mistake_where_it_is() -> None:
    """Every brace and quote of a net taken away, every brace doubled: one sentence each.

    What is missing shows at the next line at the latest, but for the last brace of the file.
    """
    for place, character in enumerate(NET):
        if character not in '{}"':
            continue
        line = NET.count("\n", 0, place) + 1
        damaged = [NET[:place] + NET[place + 1 :]]
        if character != '"':
            damaged.append(NET[:place] + character + NET[place:])
        for text in damaged:
            (found,) = problems(text)
            if text.rstrip() != NET[: place + 1].rstrip().removesuffix("}").rstrip():
                assert abs(int(found.split(":")[1]) - line) <= 1, (found, line)


def test_the_last_brace_is_missed_by_its_opening_line() -> None:
    (found,) = problems(NET.rstrip().removesuffix("}"))
    assert found == "n.prototxt:30:1: layer 'relu': layer, opened on line 30, is never closed"


BRACES = [
    (
        NET.replace("    lr_mult: 1\n  }", "    lr_mult: 1"),
        "15:3: layer 'conv': the '}' that closes param, opened on line 13, is missing before this "
        "param",
    ),
    (
        NET.replace('      type: "constant"\n    }', '      type: "constant"'),
        "27:3: layer 'conv': the '}' that closes bias_filler, opened on line 25, is missing before "
        "this '}'",
    ),
    (
        NET.replace('  top: "data"\n', '  top: "data" }\n'),
        "5:15: this '}' closes layer, opened on line 2, but input_param, which follows, belongs "
        "inside it; remove it, or give it its '{'",
    ),
    (
        NET.replace("convolution_param {", "convolution_param"),
        "20:5: layer 'conv': convolution_param is a message: expected '{', found num_output",
    ),
    (
        'layer {\nname: "a"\nlayer {\nname: "b"\n}\n',
        "3:1: layer 'a': the '}' that closes layer, opened on line 1, is missing before this layer",
    ),
    ("layer { name: 'a' } }", "1:21: found '}', expected a field name; check the braces above"),
]


@pytest.mark.parametrize(("text", "sentence"), BRACES)
def test_a_wrong_brace_is_named(text: str, sentence: str) -> None:
    assert problems(text) == (f"n.prototxt:{sentence}",)


def test_mistakes_before_a_missing_brace_are_reported_too() -> None:
    text = NET.replace("lr_mult: 1\n  }", "lr_mult: 1").replace('top: "data"', 'topp: "data"')
    found = problems(text)
    assert [sentence.split(":")[1] for sentence in found] == ["5", "15"]


def test_a_missing_brace_is_named_before_a_hundred_layers() -> None:
    layers = "".join(f"layer {{\n  name: 'l{i}'\n}}\n" for i in range(200))
    (found,) = problems(layers.replace("name: 'l3'\n}", "name: 'l3'"))
    assert found.startswith("n.prototxt:12:1: layer 'l3': the '}' that closes layer")


QUOTES = [
    (
        "layer { name: \u201cconv\u201d type: 'ReLU' }",
        '1:15: name has curly quotes; write straight ones: name: "conv"',
    ),
    (
        "layer { name: \udc93conv\udc94 }",
        '1:15: name has curly quotes; write straight ones: name: "conv"',
    ),
    (
        'layer { hdf5_data_param { source: a/b.txt" batch_size: 3 } }',
        '1:35: source takes a string in quotes, found a/b.txt; write source: "a/b.txt"',
    ),
    (
        'layer { name: "conv }',
        '1:15: name takes a string in quotes, found a string without its closing quote: "conv }',
    ),
]


@pytest.mark.parametrize(("text", "sentence"), QUOTES)
def test_a_wrong_quote_is_one_mistake(text: str, sentence: str) -> None:
    assert problems(text) == (f"n.prototxt:{sentence}",)


def test_a_hundred_mistakes_are_enough() -> None:
    found = problems("layer { nosuch: 1 }\n" * 5000)
    assert len(found) == 101
    assert found[99].startswith("n.prototxt:100:9: ")
    assert found[100] == "n.prototxt: only the first 100 mistakes are shown"


def test_a_lenient_reader_lists_a_hundred_fields_and_counts_the_rest() -> None:
    text = "layer { nosuch: 1 other { a: [1, { }] } }\n" * 5000
    warnings = parse_text(text, "NetParameter", "n.prototxt", lenient=True)[1].warnings
    assert len(warnings) == 101
    assert warnings[100] == "n.prototxt: skipped: 9,900 more unknown fields"


def test_messages_take_no_more_memory_than_allowed() -> None:
    text = "layer{}" * 100_000
    with pytest.raises(FormatError, match=r"^n.prototxt: its messages would take .* --max-bytes"):
        parse_text(text, "NetParameter", "n.prototxt")
    assert len(parse_text(text, "NetParameter", max_bytes=10**9)[0].layer) == 100_000


def test_lenient_reading_forgives_unknown_fields_only() -> None:
    found = problems("fork: 1 layer { pooling_param { pool: AVG ceil: 1 } }", lenient=True)
    assert [sentence.split(": ", 1)[1] for sentence in found] == [
        "pool has no value 'AVG'; did you mean 'AVE'?"
    ]


@pytest.mark.parametrize("text", ["a" + " { a" * 10**6, "a: " + "[" * 10**6, "a <" * 10**6])
def test_deep_nesting_is_a_sentence(text: str) -> None:
    assert problems(text)[-1].endswith("messages are nested more than 100 deep")


@pytest.mark.parametrize(
    ("text", "place"), [("name: 'a\0b'", "1:9"), ("name: 'a' # b\0\ninput: 'c'", "1:14")]
)
def test_a_zero_byte_in_a_string_or_comment_is_refused_as_by_caffe(text: str, place: str) -> None:
    sentence = "found a zero byte, which text never has; the file is damaged, get it anew"
    assert problems(text) == (f"n.prototxt:{place}: {sentence}",)


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
