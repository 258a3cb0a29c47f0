"""Diagrams: shapes and counts, phases, nets that cannot be built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caffecompat import Net
from caffecompat.draw.diagram import Diagram
from caffecompat.draw.kinds import KINDS, kind_of
from caffecompat.draw.layer_boxes import boxes_of
from caffecompat.draw.reading import diagram_of
from caffecompat.errors import NetError
from caffecompat.layers import BuildOptions, catalogue
from caffecompat.net.analysis.summary import summarise
from caffecompat.net.definition import read_definition
from tests.draw.nets import (
    INPUT,
    TRAIN_VAL,
    convolution,
    drawn,
    join,
    pooling,
    product,
    relu,
    residual_net,
)


def by_name(diagram: Diagram) -> dict[str, str]:
    return {layer.name: layer.problem for layer in diagram.layers}


def test_shapes_and_counts_are_those_of_the_summary(tmp_path: Path) -> None:
    diagram = drawn(tmp_path, residual_net(2))
    summary = summarise(Net(str(tmp_path / "net.prototxt"), shapes_only=True))
    assert len(diagram.layers) == len(summary.rows)
    for layer, row in zip(diagram.layers, summary.rows, strict=True):
        assert (layer.name, layer.type) == (row.name, row.type)
        assert [(top.name, top.shape) for top in layer.tops] == row.tops
        assert layer.parameter_count == row.parameters
        assert layer.multiply_adds == row.multiply_adds
    assert (diagram.batch, diagram.parameter_count) == (2, summary.parameters)
    assert diagram.problems == []


def test_shared_parameters_count_once(tmp_path: Path) -> None:
    shared = "inner_product_param { num_output: 3 bias_term: false } param { name: 'w' }"
    text = INPUT + "".join(
        f"layer {{ name: '{name}' type: 'InnerProduct' bottom: 'data' top: '{name}' {shared} }}\n"
        for name in ("one", "two")
    )
    one, two = drawn(tmp_path, text).layers[1:]
    assert (one.parameter_count, two.parameter_count) == (3 * 189, 0)
    assert two.parameters[0].owner == "one"


@pytest.mark.parametrize(
    ("phase", "names"),
    [
        ("TRAIN", ["data", "fc", "loss"]),
        ("test", ["data", "fc", "accuracy", "loss"]),
        ("ALL", ["data", "data", "fc", "accuracy", "loss"]),
    ],
)
def test_phases(phase: str, names: list[str], tmp_path: Path) -> None:
    diagram = drawn(tmp_path, TRAIN_VAL, phase)
    assert [layer.name for layer in diagram.layers] == names
    assert diagram.problems == []
    assert diagram.batch == (4 if phase != "test" else 2)


def test_with_all_phases_both_data_layers_are_read(tmp_path: Path) -> None:
    diagram = drawn(tmp_path, TRAIN_VAL, "ALL")
    product = diagram.layers[2]
    assert product.bottoms[0].makers == (0, 1)
    edges = {(edge.start, edge.end) for edge in boxes_of(diagram.layers).edges}
    assert {(0, 2), (1, 2), (0, 4), (1, 4)} <= edges


def test_an_unknown_type_is_marked_and_shapes_after_it_are_unknown(tmp_path: Path) -> None:
    text = INPUT + join("Mystery", "odd", "data") + product("fc", "odd") + product("other", "data")
    diagram = drawn(tmp_path, text)
    problems = by_name(diagram)
    assert problems["odd"].startswith("unknown layer type 'Mystery' in net.prototxt:5: layer 'odd'")
    assert "known:" not in problems["odd"]
    assert problems["fc"] == problems["other"] == ""
    shapes = {layer.name: layer.tops[0].shape for layer in diagram.layers}
    assert shapes == {"data": (2, 3, 9, 7), "odd": None, "fc": None, "other": (2, 5)}
    assert [layer.kind for layer in diagram.layers[1:3]] == ["unknown", "product"]


def test_a_layer_that_refuses_its_settings_is_marked(tmp_path: Path) -> None:
    diagram = drawn(tmp_path, INPUT + convolution("conv", "data", 0) + relu("conv"))
    assert "num_output is missing or 0" in by_name(diagram)["conv"]


def test_a_bottom_that_nobody_makes_is_marked(tmp_path: Path) -> None:
    diagram = drawn(tmp_path, INPUT + relu("nothing") + product("fc", "data"))
    assert "no layer makes bottom 'nothing'" in by_name(diagram)["nothing_relu"]
    assert any("unknown bottom blob 'nothing'" in note for note in diagram.notes)
    assert diagram.layers[-1].tops[0].shape == (2, 5)


def test_data_files_may_be_missing(tmp_path: Path) -> None:
    data = 'layer { name: "d" type: "Data" top: "d" data_param { source: "no" batch_size: 2 } }'
    diagram = drawn(tmp_path, data + product("fc", "d"))
    assert diagram.problems
    path = tmp_path / "net.prototxt"
    options = BuildOptions(shapes={"d": (3, 4, 4)})
    stated = diagram_of(read_definition(path), str(path), options=options)
    assert stated.problems == []
    assert stated.layers[1].tops[0].shape == (2, 5)
    options = BuildOptions(shapes={"x": (1,)})
    with pytest.raises(NetError, match="a shape is stated for 'x'"):
        diagram_of(read_definition(path), str(path), options=options)


def test_folders_are_not_named(tmp_path: Path) -> None:
    data = 'layer { name: "d" type: "ImageData" top: "d" image_data_param { source: "no.txt" } }'
    diagram = drawn(tmp_path, 'input: "x" input_shape { dim: 2 } ' + data + relu("y"))
    texts = [*diagram.notes, *(layer.place for layer in diagram.layers), *diagram.problems]
    assert any("no.txt" in text for text in texts)
    assert diagram.layers[1].place == "net.prototxt:1"
    for text in texts:
        assert str(tmp_path) not in text
        assert os.getcwd() not in text


def test_what_cannot_be_drawn_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NetError, match="phase is 'BOTH'; it must be TRAIN, TEST or ALL"):
        drawn(tmp_path, TRAIN_VAL, "BOTH")
    with pytest.raises(NetError, match="the net has no layers"):
        drawn(tmp_path, 'name: "empty"')


def test_embedded_values_are_not_part_of_the_text(tmp_path: Path) -> None:
    text = product("fc", "data").replace("inner", "blobs { data: 0.5 shape { dim: 1 } } inner", 1)
    layer = drawn(tmp_path, INPUT + text.replace('top: "fc" i', 'top: "fc" i')).layers[1]
    assert "num_output: 5" in layer.text
    assert "blobs" not in layer.text


def test_geometry_in_words(tmp_path: Path) -> None:
    strided = """layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {
      num_output: 6 kernel_h: 1 kernel_w: 5 stride: 2 pad_w: 2 group: 3 dilation: 2 } }"""
    text = INPUT + convolution("conv", "data") + pooling("pool", "conv") + strided
    words = [layer.geometry for layer in drawn(tmp_path, text).layers]
    assert words == [
        "",
        "3×3 pad 1, 4",
        "MAX 2×2 stride 2",
        "1×5 stride 2 pad 0x2 dilation 2, 6, group 3",
    ]


def test_every_type_has_a_kind() -> None:
    classes = {name: catalogue.definitions(name) for name in {*catalogue} if " (" not in name}
    kinds = {name: kind_of(found[0]) for name, found in classes.items() if found}
    assert len(kinds) >= 61
    assert set(kinds.values()) <= set(KINDS) - {"unknown"}
    assert kind_of(None) == "unknown"
    expected = {
        "ImageData": "data",
        "Deconvolution": "convolution",
        "LSTM": "product",
        "Pooling": "pooling",
        "Dropout": "activation",
        "LRN": "normalisation",
        "Eltwise": "join",
        "HingeLoss": "loss",
        "Accuracy": "score",
        "Reshape": "other",
    }
    assert {name: kinds[name] for name in expected} == expected


def test_layers_in_place_share_a_box(tmp_path: Path) -> None:
    diagram = drawn(tmp_path, INPUT + convolution("a", "data") + relu("a") + product("b", "a"))
    assert boxes_of(diagram.layers).members == ((0,), (1, 2), (3,))


def test_a_value_with_other_readers_keeps_its_own_box(tmp_path: Path) -> None:
    text = convolution("a", "data") + product("b", "a") + relu("a") + product("c", "a")
    boxes = boxes_of(drawn(tmp_path, INPUT + text).layers)
    assert boxes.members == ((0,), (1,), (2,), (3,), (4,))
    assert {(edge.start, edge.end) for edge in boxes.edges} == {(0, 1), (1, 2), (1, 3), (3, 4)}
