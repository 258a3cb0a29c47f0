"""The fast reader and the parser agree on messages, lines, warnings and mistakes."""

from __future__ import annotations

import re
from operator import mul

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffecompat.proto.text import parse_state, scalars, tokens
from caffecompat.proto.text.parser import parse_text
from caffecompat.proto.text.repeats import block_runs, known_blocks
from caffecompat.proto.text.tokens import pieces
from tests.proto.text.careful_reading import read, read_carefully

STRINGS = ["'a'", '"b"', "'#'", "'}'", '"{"', "'a' 'b'", r"'\n\'\1' '2'", "'é'", "''", "'\"'", "x"]
NUMBERS = [
    "1",
    "0",
    "-2.5e-3",
    "007",
    "0x1F",
    "2.",
    ".5f",
    "-0",
    "1e400",
    "inf",
    "1_0",
    "- 1",
    "- inf",
    "-",
    "",
]
LISTS = [
    "[]",
    "[1, 2]",
    "[1, 2,]",
    "[01, 010, 2]",
    "[1, 08, 2]",
    "[1 2]",
    "['a', \"b\"]",
    "['a' 'b', ']']",
    "[TRAIN]",
    "[-0, 3.]",
]
ANY = [*STRINGS, *NUMBERS, *LISTS, "true", "MAX", "{ }", "{ lr_mult: 1 }"]
WHOLE = ["1", "0", "12", "007", "0x1F"]
TEXT = [
    "'a'",
    '"b"',
    r"'\n'",
    r'"\303\251\""',
    "'input: top'",
    "'#'",
    "'}'",
    "'a' \"b\"",
    r"'\n\'' '2'",
]
FLOAT = ["1", "0", "-2.5e-3", "2.", ".5f", "-0", "1e30", "inf", "- 1"]
SEVERAL_TEXTS = [*TEXT, "['a', \"b\"]", "[]", "['a' 'b', ']']"]
SEVERAL_FLOATS = [*FLOAT, "[1, 2e3, -0, .5 ]", "[1, 2.]", "[ ]"]
LAYER = {
    "name": TEXT,
    "type": TEXT,
    "bottom": SEVERAL_TEXTS,
    "top": SEVERAL_TEXTS,
    "loss_weight": SEVERAL_FLOATS,
    "propagate_down": ["true", "[false, t, 1]", "0"],
    "phase": ["TRAIN", "1"],
    "nosuch": ANY,
}
CONVOLUTION = {
    "num_output": WHOLE,
    "pad": [*WHOLE, "[1, 2]"],
    "kernel_size": [*WHOLE, "[3, 3, 3]"],
    "bias_term": ["true", "0"],
    "engine": ["CAFFE", "2"],
    "nosuch": ANY,
}
FILLER = {"type": TEXT, "value": FLOAT, "std": FLOAT, "variance_norm": ["FAN_IN", "1"]}
PARAM = {"lr_mult": FLOAT, "decay_mult": FLOAT, "name": TEXT, "share_mode": ["STRICT"]}
BLOB = {"data": SEVERAL_FLOATS, "double_data": SEVERAL_FLOATS, "num": WHOLE}
NET = {
    "name": TEXT,
    "input": SEVERAL_TEXTS,
    "input_dim": [
        *WHOLE,
        "[1, 3, 224]",
        "[1, 007, 5]",
        "[010, 0, 1 , 2]",
        "[4, 1000000000, 2147483648]",
    ],
    "force_backward": ["true"],
    "nosuch": ANY,
    "nosuch_more": [*NUMBERS, "'a:b'", "[]"],
}
SEPARATORS = st.sampled_from(
    [*([" ", "\n  "] * 6), "; ", ", ", " # c\n", "\n\n# '{'\n# b }\n", ' # "c\n', "#\n"]
)


@st.composite
def fields(
    draw: st.DrawFn, table: dict[str, list[str]], inner: st.SearchStrategy[str] | None = None
) -> str:
    """Each field once, or several times where it may stand so; rarely a mistake."""
    names = draw(st.lists(st.sampled_from(sorted(table)), max_size=4, unique=True))
    parts: list[str] = []
    for name in names:
        mistaken = draw(st.integers(0, 30))
        value = draw(st.sampled_from(ANY if mistaken == 30 else table[name]))
        colon = " " if mistaken == 29 else draw(st.sampled_from([": ", ": ", ":", " : "]))
        several = any(value.startswith("[") for value in table[name])
        for _ in range(draw(st.sampled_from([1, 1, 3])) if several else 1):
            parts += [f"{name}{colon}{value}", draw(SEPARATORS)]
    for part in draw(st.lists(inner, max_size=3, unique=True)) if inner is not None else ():
        parts += [part, draw(SEPARATORS)]
    for name in (
        draw(st.lists(st.sampled_from(["bottom", "top"]), max_size=2)) if inner is not None else ()
    ):
        parts += [f"{name}: {draw(st.sampled_from(TEXT))}", draw(SEPARATORS)]
    return "".join(parts)


def block(names: str, inside: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    openers = st.sampled_from([" { ", " {\n", ": {"])
    return st.builds(
        lambda name, opener, text: f"{name}{opener}{text} }}",
        st.sampled_from(names.split()),
        openers,
        inside,
    )


FILLERS = block("weight_filler bias_filler", fields(FILLER))
PARTS = st.one_of(
    block("convolution_param", fields(CONVOLUTION, FILLERS)),
    block("param", fields(PARAM)),
    block("blobs", fields(BLOB)),
    block("nosuch", fields(PARAM)),
)
LAYERS = block("layer", fields(LAYER, PARTS))
SHAPES = block("input_shape", fields({"dim": [*WHOLE, "[1, 3]", "[4294967296, 1]"]}))


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Parts that come again, sometimes with another string or number, sometimes damaged."""
    known = draw(st.lists(st.one_of(LAYERS, fields(NET)), min_size=1, max_size=3))
    parts = draw(st.lists(st.sampled_from(known), min_size=1, max_size=8))
    for index, part in enumerate(parts):
        old = draw(st.sampled_from(["", "'a'", '"b"', "1", "}"] if index else [""]))
        new = draw(st.sampled_from(["'c'", '"d"', "2"] if old != "}" else ["}", "} }", ""]))
        parts[index] = part.replace(old, new, 1) if old else part
    return draw(SEPARATORS).join([*parts, ""])


@given(texts(), st.booleans())
def test_the_fast_reader_finds_what_the_careful_one_finds(text: str, lenient: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_state, "MOST_LISTED", 2)
        patch.setattr(known_blocks, "_USES_BEFORE_PATTERN", 1)
        assert read(text, lenient) == read_carefully(text, lenient)


@given(
    st.lists(st.one_of(LAYERS, SHAPES, fields(NET)), min_size=1, max_size=3),
    st.lists(st.sampled_from(["'c'", '"d"', "'é'", "'}'", "x"]), min_size=3, max_size=6),
)
def test_fields_that_come_in_turns_are_read_alike(parts: list[str], names: list[str]) -> None:
    text = "\n".join(part.replace("'a'", name) for name in names for part in parts) + "\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_blocks, "_USES_BEFORE_PATTERN", 1)
        patch.setattr(block_runs, "_MOST_TOGETHER", 2)
        assert read(text, False) == read_carefully(text, False)


def test_long_lists_may_have_octal_numbers() -> None:
    numbers = [*(["7", "010", "0", " 0017 "] * 9), "00000000017", "1", "0" * 70 + "1", "1"]
    net = parse_text(f"input_dim: [{', '.join(numbers[:-2])}]", "NetParameter")[0]
    assert list(net.input_dim) == [7, 8, 0, 15] * 9 + [15, 1]
    for wrong in (numbers, [*numbers[:9], "08", "1"], [*numbers[:9], "0777777777777", "1"]):
        text = f"input_dim: [{', '.join(wrong)}]"
        assert read(text, False) == read_carefully(text, False)
        assert "net:1:" in read(text, False).mistakes


def test_messages_of_two_fields_in_turns_stay_in_their_fields() -> None:
    text = "layer { name: 'a' type: 'ReLU' }\ninput_shape { dim: 1 }\n" * 40
    net, source = parse_text(text, "NetParameter")
    assert (len(net.layer), len(net.input_shape)) == (40, 40)
    assert [source.line_of("input_shape", index) for index in range(40)] == [*range(2, 81, 2)]


SIMPLE = [
    "layer {\n  name: 'a'\n  top: 'a' param {\n    lr_mult: 1\n  }\n"
    "  param { name: 'a' decay_mult: 1 }\n  top: 'a' loss_weight: 1 }\n",
    'layer {\n  top: "a" convolution_param { weight_filler { std: 1\n} num_output: 1 }\n}\n',
    "layer { convolution_param { pad: [ 1, 2,1]\n pad: 1 engine: CAFFE bias_term: true } top: 'a'\n"
    "  bottom: ['a' , 'b'] blobs { double_data: 1 data: 1 data: 1\n } }\n",
    "layer { top: 'a' loss_weight: inf loss_weight: 1 loss_weight: 2 }\n",
    "input_shape { dim: 1 dim: 1 }\n",
    "layer { name: 'a' nosuch: [name, 1] nosuch { name: 1 pad {\n} top: [ 1,2] } top: 'a' }\n",
    "layer { name: 'a' nosuch: 'a' convolution_param { nosuch: 1 num_output: 1\n x: [1, 1] } }\n",
    "layer { name: '1' nosuch: [name, '1'] top: 'a' x: name x: [name: 1] }\n",
    "layer { name: 'a' '1'\n convolution_param { bias_term: 1 engine: 1 axis: 1 pad: 1 } }\n",
    "layer { reshape_param { shape { dim: 1 dim: -1\n} axis: -1 num_axes: 1 } top: ['a' 'b'] }\n",
    "input: 'a'\ninput_shape { dim: 1 }\ninput: \"a\"\ninput_dim: 1\ninput_dim: 1\n",
    "layer { name: 'a' relu_param { negative_slope: nan } power_param { scale: -inf power: 1 } }\n",
    "layers { layer { name: 'a' num_output: 1 }\n}\nlayer { name: 'a'\n}\nlayers { name: 'a' }\n",
]
# What is put in the place of a string, in the place of a number, and before a line end.
ESCAPED = ["\\'", '\\"', "\\x41#", "\\303\\251", "\\377", "\\q", "\\", "\\\\", "\\1", "é\\n"]
NAMES = st.sampled_from(
    [*ESCAPED, "", "b", "#", "b#}", "}", "é", "\udc80", "n\n", "'", '"', "' 'b"]
)
OTHERS = st.sampled_from(
    [*(["1", "2", "0", "12", "128", "-0", "-2.5e-3"] * 2), *NUMBERS, "1e39", "08"]
)
BEFORE_LINE_END = st.sampled_from(
    [*([""] * 20), " ", "#", " # c", "#}", "# 'c", '# "', "'", " 'c'", "}", ";"]
)


@given(
    st.lists(st.sampled_from(SIMPLE), min_size=1, max_size=2),
    st.lists(st.tuples(NAMES, OTHERS, BEFORE_LINE_END, st.integers(0, 6)), min_size=1, max_size=4),
    st.integers(1, 4),
)
def test_layers_that_differ_in_values_and_comments_are_read_alike(
    layers: list[str], turns: list[tuple[str, str, str, int]], listed: int
) -> None:
    text = "".join(layers) * 4
    for name, number, before, line in turns:
        for layer in layers:
            lines = layer.split("\n")
            lines[line % len(lines)] += before
            changed = "\n".join(lines).replace("1", number, line)
            text += changed.replace("'a'", f"'{name}'").replace('"a"', f'"{name}"')
    text += layers[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_blocks, "_USES_BEFORE_PATTERN", 1)
        patch.setattr(block_runs, "_MOST_TOGETHER", 3)
        patch.setattr(parse_state, "MOST_LISTED", listed)
        assert read(text, True) == read_carefully(text, True)


@pytest.mark.parametrize("unknown", ["[pad, 1]", "[pad: 1]", "1", "pad", "'pad: 1'"])
def test_an_unknown_field_gives_none_of_its_values_to_another(
    unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse_state, "MOST_LISTED", 1)
    layer = "layer { pooling_param { pad: %d nosuch: UNKNOWN } }\n".replace("UNKNOWN", unknown)
    text = "".join(layer % number for number in (1, 1, 1, 2, 3))
    net, _ = parse_text(text, "NetParameter", lenient=True)
    assert [layer.pooling_param.pad for layer in net.layer] == [1, 1, 1, 2, 3]
    assert read(text, True) == read_carefully(text, True)


def test_comments_between_strings_give_no_values() -> None:
    text = "layer {\n  top: 'a'\n  top: 'b' # 'c'\n  top: 'd#' # top: 'e'\n  top: 'f'\n}\n"
    assert list(parse_text(text, "NetParameter")[0].layer[0].top) == ["a", "b", "d#", "f"]


def test_strings_without_escapes_are_copied_without_escapes() -> None:
    layer = "layer { tokenized_data_param { source: '%s' } }\n"
    text = "".join(layer % source for source in ("a", "b", r"C:\new", r"C:\\new"))
    assert read(text, False).mistakes == ""
    assert read(text, False) == read_carefully(text, False)


def test_comments_are_left_out_of_layers_that_are_copied() -> None:
    """A ``#`` or a brace in a string or a comment is none of the layer."""
    named = """layer {{ # the {0}th
  name: "{0}" # it's "{0}" {1}
  top: "a#{0}" # {0}
  param {{
    name: "w#{0}"
  }}
}}
"""
    text = "".join(named.format(number, " }"[number % 2]) for number in range(20))
    assert read(text, False) == read_carefully(text, False)
    plain = re.sub('#[0-9]+"', '"', text)
    assert read(plain, False) == read_carefully(plain, False)
    assert read(plain, False).message == read(re.sub("#.*", "", plain), False).message


@pytest.mark.parametrize("separator", [";", ","])
def test_no_separator_comes_first_in_a_message(separator: str) -> None:
    text = f"layer {{ name: 'a' param {{ {separator} }} }}"
    assert read(text, False).mistakes == (
        f"net:1:27: layer 'a': expected a field name, found {separator}"
    )


@pytest.mark.parametrize("values", ["[\u00b2]", "[\u0663, 1]", "\u0663", "[1, \u0663, 2]"])
def test_other_digits_than_0_to_9_are_no_numbers(values: str) -> None:
    found = read(f"input_dim: {values}\ninput_dim: 1", False)
    assert found.mistakes.startswith("net:1:")
    assert found == read_carefully(f"input_dim: {values}\ninput_dim: 1", False)


ESCAPES = [r"\n", r"\\", r"\'", r"\\n", r"\?", r"\1", r"\18", r"\101", r"\777", r"\x4", r"\x41"]
ESCAPES += [r"\u00e9", r"\U0001F600", r"\N", r"\q", r"\x", r"\8", "a", "é", "1", "f", "\udc80"]


RUN = ["input_dim: 3\n", "input_dim : 010 ", "input_dim:4 # input_dim: 5\n\n", "input_dim: 6;"]
RUN += ["input: 'a'\n", 'input: "input: input"\n', "input: 'b' # 'c'\n", "input: 'a' 'b'\n"]
UNKNOWN = ["nosuch : 2;", "nosuch: 'a:b'\n", "nosuch # :\n:1 ", "nosuch { a: 1 }", "nosuch: - inf "]
UNKNOWN += ["nosuch: [1, a]", "nosuch: ['a']", "nosuch: [{ }]", "nosuch: [a: 1]\n"]
UNKNOWN += ["nosuch: 1\n", "other: 1 "]
MISTAKES = ["input: '", "nosuch: :: ", "input: 'é' ", "input_dim: 7;;", ""]
SAME = st.builds(mul, st.sampled_from(RUN), st.integers(1, 4))
SAME_OR_UNKNOWN = st.builds(mul, st.sampled_from(RUN + UNKNOWN), st.integers(1, 4))


@given(
    st.lists(st.lists(st.sampled_from(ESCAPES), max_size=30), min_size=1, max_size=4),
    st.sampled_from("\"'"),
)
def test_many_escapes_are_read_at_once_and_alike(strings: list[list[str]], quote: str) -> None:
    text = "name: " + " ".join(f"{quote}{''.join(parts)}{quote}" for parts in strings)
    assert read(text, False) == read_carefully(text, False)


@given(st.text("\\\"'\nax1", max_size=60))
def test_a_string_ends_at_its_quote_and_is_cut_between_escapes(text: str) -> None:
    units = re.match(r"""(?:\\.|[^"\\\n])*""", text)
    assert units is not None
    starts = {match.start() for match in re.finditer(r"\\.|.", units[0])} | {units.end()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_FIRST_PIECE", 11)
        patch.setattr(tokens, "_LONGEST_PIECE", 13)
        ends = list(pieces(text, 0, '"'))
    assert ends[-1] == units.end()
    assert ends == sorted(ends)
    assert starts.issuperset(ends)


@given(
    st.lists(st.sampled_from(["a\\x41", "\\\\", "\\101", "\\U0001F600", "\\n", "b"]), max_size=40),
    st.integers(0, 12),
)
def test_a_long_string_is_read_in_pieces(parts: list[str], before: int) -> None:
    text = f'name: "{"." * before}{"".join(parts)}"'
    expected = read_carefully(text, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scalars, "_JOINED", re.compile("(?!)"))
        patch.setattr(tokens, "_FIRST_PIECE", 11)
        patch.setattr(tokens, "_LONGEST_PIECE", 13)
        assert read(text, False) == expected


@given(st.lists(SAME, max_size=8), st.lists(SAME_OR_UNKNOWN, max_size=8), st.sampled_from(MISTAKES))
def test_values_at_the_top_level_are_read_at_once_with_their_lines(
    parts: list[str], more: list[str], mistake: str
) -> None:
    known, all_parts = "".join(parts), "".join([*parts, *more, mistake, *parts])
    assert read(known, False) == read_carefully(known, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_state, "MOST_LISTED", 2)
        assert read(all_parts, True) == read_carefully(all_parts, True)
