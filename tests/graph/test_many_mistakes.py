"""Nets with thousands of mistakes in their wiring: the first hundred, in little time."""

from __future__ import annotations

import difflib
from typing import Any

import pytest

from caffecompat import Net
from caffecompat.errors import NetError, UnknownName, suggestion
from caffecompat.graph import build_graph, net_state
from caffecompat.proto import schema


def unconnected(count: int, order: str = "") -> Any:
    """``count`` layers, of which each reads a blob that nothing makes, or only a later layer."""
    net = schema.new("NetParameter")
    for index in range(count):
        bottom = f"blob_{index + 1}" if order == "late" else f"missing_{index}"
        net.layer.add(name=f"layer{index}", type="ReLU", bottom=[bottom], top=[f"blob_{index}"])
        if order == "left out":
            layer = net.layer.add(name=f"other{index}", type="ReLU", top=[bottom])
            layer.include.add(stage=["never"])
    return net


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        ("", "unknown bottom blob 'missing_99'"),
        ("late", "bottom 'blob_100' is made only later, by layer 'layer100'"),
        ("left out", "bottom 'missing_99' exists only with stage 'never'"),
    ],
)
def test_a_hundred_mistakes_are_enough(
    order: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    near = difflib.get_close_matches

    def counted(word: str, names: list[str], **options: Any) -> list[str]:
        compared.append(len(names))
        return near(word, names, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    net = unconnected(5_000, order)
    with pytest.raises(NetError) as caught:
        build_graph(net, net_state(net, "TEST"))
    lines = str(caught.value).split("\n")
    assert len(lines) == 101
    assert sentence in lines[99]
    left = 4_899 if order == "late" else 4_900
    assert lines[100] == f"and {left + (order == 'late'):,} more mistakes in the wiring"
    assert len(compared) <= 100
    assert max(compared, default=0) <= 500


def test_the_blob_that_a_layer_reads_and_makes_is_not_made_later() -> None:
    net = schema.new("NetParameter")
    net.layer.add(name="relu", type="ReLU", bottom=["a"], top=["a"])
    with pytest.raises(NetError, match="unknown bottom blob 'a'"):
        build_graph(net, net_state(net, "TEST"))


def test_of_many_names_the_likely_ones_are_compared() -> None:
    names = [f"aaaa{index:05}" for index in range(5_000)] + ["conv_first"]
    assert suggestion("conv_frist", names) == "; did you mean 'conv_first'?"


def test_long_names_are_not_compared() -> None:
    """It would take hours."""
    long = "ab" * 500_000
    assert suggestion(long, [long + "c"]) == f"; known: {long[:100]}..."
    assert suggestion("conv", [long, "conv1"]) == "; did you mean 'conv1'?"


def test_a_long_list_is_cut() -> None:
    text = suggestion("?", [f"name{index:05}" for index in range(1_000)])
    assert text.startswith("; known: name00000, name00001, ")
    assert text.endswith(", name00363, and 636 more")
    assert suggestion("?", ["b", "a"]) == "; known: a, b"


def test_thousands_of_unknown_types() -> None:
    net = schema.new("NetParameter")
    for index in range(3_000):
        net.layer.add(name=f"layer{index}", type=f"Type{index}", top=[f"blob{index}"])
    with pytest.raises(NetError) as caught:
        Net(net, shapes_only=True)
    lines = str(caught.value).split("\n")
    assert lines[99].startswith("unknown layer type 'Type99'")
    assert lines[100] == "and 2,900 more layers of unknown types"
    assert str(caught.value).endswith(caught.value.copied)


def test_layers_of_one_name_have_a_limit() -> None:
    """Caffe takes any number; torch's names for them grow."""
    net = schema.new("NetParameter")
    for index in range(1_001):
        layer = net.layer.add(name="same", type="Input", top=[f"blob{index}"])
        layer.input_param.shape.add(dim=[2, 3])
    with pytest.raises(NetError, match=r"'same' .* more than 1,000 layers have this name"):
        Net(net, shapes_only=True)
    del net.layer[-1]
    assert len(Net(net, shapes_only=True).layers) == 1_000


def test_no_near_name_is_looked_for_before_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(*_: Any, **__: Any) -> list[str]:
        raise AssertionError

    near = difflib.get_close_matches
    monkeypatch.setattr(difflib, "get_close_matches", compared)
    error = UnknownName("layer type", "ReLu6", ["ReLU6", "TanH"])
    monkeypatch.setattr(difflib, "get_close_matches", near)
    assert str(error) == "unknown layer type 'ReLu6'; did you mean 'ReLU6'?"
