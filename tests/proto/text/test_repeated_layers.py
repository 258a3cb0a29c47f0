"""Layers that differ from earlier ones in values only are read at once, as others are."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from caffecompat.proto.descriptors import Field
from caffecompat.proto.text import ordinary
from caffecompat.proto.text.parser import parse_text
from caffecompat.proto.text.repeats import known_blocks
from caffecompat.proto.text.repeats.blocks import Block, find_block
from tests.proto.text.careful_reading import read, read_carefully


@dataclass
class Found:
    """The blocks that were looked for in a text, one by one."""

    values: list[tuple[str, ...]] = field(default_factory=list)

    def find(self, text: str, start: int, target: Field) -> Block | None:
        block = find_block(text, start, target)
        if block is not None:
            self.values.append(block.values)
        return block


def test_layers_that_differ_in_names_and_numbers_only_are_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Found()
    monkeypatch.setattr(ordinary, "find_block", found.find)
    layer = "layer { name: '%s'\n top: ['%s', 't'] param { lr_mult: %d decay_mult: -0 } }\n"
    text = "".join(layer % (name, name, ord(name)) for name in "abcd")
    net, source = parse_text(text, "NetParameter")
    # The inner message of the first layer is read, and of the last, which nothing follows.
    assert found.values == [
        *[("a", "a", "t", "97", "-0"), ("97", "-0")],
        *[("b", "b", "t", "98", "-0"), ("c", "c", "t", "99", "-0"), ("100", "-0")],
    ]
    assert [(layer.name, list(layer.top), layer.param[0].lr_mult) for layer in net.layer] == [
        (name, [name, "t"], ord(name)) for name in "abcd"
    ]
    assert str(net.layer[2].param[0].decay_mult) == "-0.0"
    assert [source.line_of("layer", index) for index in range(4)] == [1, 3, 5, 7]


def test_layers_that_come_in_the_same_order_again_are_read_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    convolution = (
        "layer { name: 'conv%d' type: 'Convolution' bottom: '%d' top: 'conv%d'\n"
        "  param { lr_mult: 1 } top: 'more%d' convolution_param { num_output: %d\n"
        "  weight_filler { std: 0.%d }\n} } # the next\n"
    )
    relu = 'layer { name: "%d" type: "ReLU" bottom: "conv%d" top: "%d" }\n'
    text = "".join(convolution % ((n,) * 6) + relu % ((n,) * 3) for n in range(2000, 2100))
    text = text.replace("conv2070", "n" * 300).replace("conv2080", "é")
    text = text.replace("num_output: 2077", "num_output: 02077")
    expected = read_carefully(text, False)
    found = Found()
    monkeypatch.setattr(ordinary, "find_block", found.find)
    assert read(text, False) == expected
    assert len(expected.lines) == 200
    uses = known_blocks._USES_BEFORE_PATTERN
    assert uses < len(found.values) < 4 * uses


@pytest.mark.parametrize("mistake", ["x: 1", "name: 'n", "name: 'n' name: 'm'", "name: 'é'"])
def test_a_different_layer_ends_what_is_read_together(mistake: str) -> None:
    layer = "layer { name: '%s' top: 't' }\n"
    text = "".join(layer % n for n in range(40)) + f"layer {{ {mistake} top: 't' }}\n"
    text += "".join(layer % n for n in range(40, 60))
    assert read(text, False) == read_carefully(text, False)
    assert read(text, True) == read_carefully(text, True)


def test_strings_behind_an_inner_message_are_read_in_each_layer() -> None:
    layer = "layer { bottom: '%s' param { lr_mult: 1 } bottom: 'b%s' name: 'n' top: 't' }\n"
    net, _ = parse_text("".join(layer % (name, name) for name in "wxyz"), "NetParameter")
    found = [(layer.name, list(layer.bottom), list(layer.top)) for layer in net.layer]
    assert found == [("n", [name, f"b{name}"], ["t"]) for name in "wxyz"]
    same = "layer { bottom: 'a' param { lr_mult: 1 } bottom: 'b' }\n" * 3
    assert [layer.bottom for layer in parse_text(same, "NetParameter")[0].layer] == [["a", "b"]] * 3
