"""Repeated structure: blocks, repetitions, stages."""

from __future__ import annotations

from pathlib import Path

from caffecompat.draw.box_groups import Group, groups_of
from caffecompat.draw.layer_boxes import boxes_of
from tests.draw.nets import INPUT, convolution, drawn, join, pooling, relu, residual, residual_net


def groups(folder: Path, text: str) -> tuple[Group, ...]:
    diagram = drawn(folder, text)
    return groups_of(diagram.layers, boxes_of(diagram.layers))


def kinds(found: tuple[Group, ...]) -> list[tuple[str, str, int, int]]:
    return [(group.kind, group.label, len(group.boxes), group.count) for group in found]


def test_equal_residual_units_are_a_repetition(tmp_path: Path) -> None:
    found = groups(tmp_path, residual_net(4))
    assert kinds(found)[:4] == [("block", f"res2b{n}", 3, 1) for n in range(4)]
    assert kinds(found)[4] == ("repetition", "res2b0 … res2b3", 12, 4)
    assert [group.parent for group in found[:4]] == [4] * 4


def test_units_of_other_sizes_are_not_equal(tmp_path: Path) -> None:
    text = INPUT + convolution("conv1", "data") + residual("a", "conv1") + residual("b", "a")
    text += convolution("wide", "b", 8) + residual("c", "wide", 8) + residual("d", "c", 8)
    found = [one for one in kinds(groups(tmp_path, text)) if one[0] == "repetition"]
    assert found == [("repetition", "a … b", 6, 2), ("repetition", "c … d", 6, 2)]


def test_an_inception_module_is_a_block(tmp_path: Path) -> None:
    text = INPUT
    for name, bottom in (("inception_3a", "data"), ("inception_3b", "inception_3a/output")):
        first, second = f"{name}/1x1", f"{name}/3x3_reduce"
        text += convolution(first, bottom, 4, 1) + convolution(second, bottom, 2, 1)
        text += convolution(f"{name}/3x3", second) + pooling(f"{name}/pool", bottom).replace(
            "kernel_size: 2 stride: 2", "kernel_size: 3 stride: 1 pad: 1"
        )
        text += join("Concat", f"{name}/output", first, f"{name}/3x3", f"{name}/pool")
    found = groups(tmp_path, text)
    # The first one reads a data layer, and no box is above its branches.
    assert ("block", "inception_3b", 5, 1) in kinds(found)


def test_a_sequence_under_one_number_is_a_stage(tmp_path: Path) -> None:
    text, bottom = INPUT, "data"
    for stage in (1, 2):
        for name in (f"conv{stage}_1", f"conv{stage}_2"):
            text += convolution(name, bottom, 4 * stage) + relu(name)
            bottom = name
        text += pooling(f"pool{stage}", bottom)
        bottom = f"pool{stage}"
    assert kinds(groups(tmp_path, text)) == [
        ("stage", "conv1_1 … pool1", 3, 1),
        ("stage", "conv2_1 … pool2", 3, 1),
    ]


def test_many_equal_layers_in_a_row_are_a_repetition(tmp_path: Path) -> None:
    text, bottom = INPUT + convolution("first", "data"), "first"
    for name in "abcde":
        text += convolution(f"layer_{name}", bottom) + relu(f"layer_{name}")
        bottom = f"layer_{name}"
    assert kinds(groups(tmp_path, text)) == [("repetition", "layer_a … layer_e", 5, 5)]


def test_a_branch_that_leaves_makes_no_block(tmp_path: Path) -> None:
    text = INPUT + convolution("conv1", "data") + residual("a1", "conv1")
    text += join("Softmax", "tap", "a1_branch2a")
    assert groups(tmp_path, text) == ()


def test_groups_are_nested(tmp_path: Path) -> None:
    found = groups(tmp_path, residual_net(3) + residual("res3a", "res2b2"))
    for index, group in enumerate(found):
        if group.parent is not None:
            assert group.parent > index
            assert set(group.boxes) <= set(found[group.parent].boxes)
    members = [set(group.boxes) for group in found]
    for first in members:
        for second in members:
            assert first <= second or second <= first or not first & second
