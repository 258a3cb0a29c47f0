"""Definitions of older generations become today's, by Caffe's rules, once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import caffecompat.proto.upgrades
from caffecompat.errors import CaffeError, NetError, SolverError
from caffecompat.proto import layer_types, schema
from caffecompat.proto.files import read_upgraded_net
from caffecompat.proto.text.parser import parse_text
from caffecompat.proto.upgrades import (
    UPGRADES,
    Problem,
    Upgrade,
    upgrade,
    upgrade_net,
    upgrade_solver,
)


def net(text: str) -> Any:
    return parse_text(text, "NetParameter")[0]


# What goes in, what must come out, and how many lines announce it.
NETS = [
    # one Input layer at the front, shapes with any number of axes
    (
        "input: 'x' input: 'y' input_shape { dim: 2 dim: 3 dim: 5 } input_shape { } "
        "input_dim: 7 layer { name: 'a' }",
        "layer { name: 'input' type: 'Input' top: 'x' top: 'y' input_param "
        "{ shape { dim: 2 dim: 3 dim: 5 } shape { } } } layer { name: 'a' }",
        1,
    ),
    # four old dimensions for each input, surplus ones are ignored
    (
        "input: 'x' input_dim: [2, 3, 5, 7, 11, 13]",
        "layer { name: 'input' type: 'Input' top: 'x' input_param "
        "{ shape { dim: [2, 3, 5, 7] } } }",
        1,
    ),
    # inputs without sizes vanish, dimensions without inputs stay
    ("name: 'n' input: 'x'", "name: 'n'", 1),
    ("input_dim: 3 input_shape { dim: 2 }", "input_dim: 3 input_shape { dim: 2 }", 0),
    # BatchNorm: three params only, names and sharing stay
    (
        "layer { type: 'BatchNorm' param { name: 'm' } param { share_mode: PERMISSIVE } "
        "param { lr_mult: 0 decay_mult: 3 } } layer { type: 'BatchNorm' param { lr_mult: 2 } } "
        "layer { type: 'Scale' param { } param { } param { } }",
        "layer { type: 'BatchNorm' param { name: 'm' lr_mult: 0 decay_mult: 0 } "
        "param { share_mode: PERMISSIVE lr_mult: 0 decay_mult: 0 } "
        "param { lr_mult: 0 decay_mult: 0 } } "
        "layer { type: 'BatchNorm' param { lr_mult: 2 } } "
        "layer { type: 'Scale' param { } param { } param { } }",
        1,
    ),
    # V1: parallel lists become params, as many as the longest has
    (
        "state { level: 3 } layers { name: 'c' type: CONVOLUTION bottom: 'x' top: 'y' top: 'z' "
        "blobs_lr: 2 weight_decay: 0.5 weight_decay: 0.25 weight_decay: 3 param: ['', 'b'] "
        "blob_share_mode: PERMISSIVE include { stage: 's' } loss_weight: 2 "
        "blobs { num: 2 data: 1 } convolution_param { pad: 1 } loss_param { normalize: true } }",
        "state { level: 3 } layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'y' top: 'z' "
        "param { name: '' share_mode: PERMISSIVE lr_mult: 2 decay_mult: 0.5 } "
        "param { name: 'b' decay_mult: 0.25 } param { decay_mult: 3 } include { stage: 's' } "
        "loss_weight: 2 blobs { num: 2 data: 1 } convolution_param { pad: 1 } "
        "loss_param { normalize: true } }",
        1,
    ),
    # V1 without a type, and with the type NONE
    (
        "layers { name: 'a' } layers { name: 'b' type: NONE }",
        "layer { name: 'a' } layer { name: 'b' type: '' }",
        1,
    ),
    # V1 data fields win over transform_param, and all data layers get one, and their own
    (
        "layers { type: DATA data_param { scale: 0.5 mirror: false source: 's' } "
        "transform_param { scale: 7 crop_size: 3 } } layers { type: WINDOW_DATA } "
        "layers { type: HDF5_DATA }",
        "layer { type: 'Data' data_param { source: 's' } "
        "transform_param { scale: 0.5 mirror: false crop_size: 3 } } "
        "layer { type: 'WindowData' transform_param { } window_data_param { } } "
        "layer { type: 'HDF5Data' }",
        2,
    ),
    # ... but nothing moves where nothing needs it, nor in today's layers
    ("layers { type: DATA data_param { } }", "layer { type: 'Data' data_param { } }", 1),
    (
        "layer { type: 'Data' data_param { scale: 3 } }",
        "layer { type: 'Data' data_param { scale: 3 } }",
        0,
    ),
    # V0: a padding layer for two readers, its pad overwriting theirs
    (
        "input: 'x' layers { layer { name: 'p' type: 'padding' pad: 3 } bottom: 'x' top: 'q' } "
        "layers { layer { name: 'c' type: 'conv' pad: 1 kernelsize: 5 stride: 2 } "
        "bottom: 'q' top: 'c' } "
        "layers { layer { name: 's' type: 'pool' pool: AVE kernelsize: 2 } bottom: 'q' top: 's' }",
        "layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'c' "
        "convolution_param { pad: 3 kernel_size: 5 stride: 2 } } "
        "layer { name: 's' type: 'Pooling' bottom: 'x' top: 's' "
        "pooling_param { pool: AVE kernel_size: 2 pad: 3 } }",
        3,
    ),
    # V0: padding in place, and padding that nobody reads
    (
        "input: 'x' layers { layer { name: 'p' type: 'padding' pad: 2 } bottom: 'x' top: 'x' } "
        "layers { layer { name: 'c' type: 'conv' } bottom: 'x' top: 'c' } "
        "layers { layer { name: 'u' type: 'padding' pad: 9 } bottom: 'c' top: 'u' }",
        "layer { name: 'c' type: 'Convolution' bottom: 'x' top: 'c' convolution_param { pad: 2 } }",
        3,
    ),
    # V0: transforms on every type, fields of other types dropped with a note
    (
        "layers { layer { name: 'r' type: 'relu' scale: 0.5 meanfile: 'm' cropsize: 3 "
        "mirror: true group: 2 new_num: 4 hdf5_output_param { } } top: 'y' }",
        "layer { name: 'r' type: 'ReLU' top: 'y' transform_param "
        "{ scale: 0.5 mean_file: 'm' crop_size: 3 mirror: true } }",
        5,
    ),
    # V0: what the first generation did not have is lost, with a note each
    (
        "state { level: 1 } debug_info: true force_backward: true layer { name: 'new' } "
        "layers { layer { name: 'r' type: 'relu' blobs_lr: 3 } top: 'y' loss_weight: 2 "
        "include { } }",
        "force_backward: true layer { name: 'r' type: 'ReLU' top: 'y' param { lr_mult: 3 } }",
        7,
    ),
]


@pytest.mark.parametrize(("before", "after", "notes"), NETS)
def test_nets_are_upgraded_once(before: str, after: str, notes: int) -> None:
    upgraded = net(before)
    announced = upgrade_net(upgraded)
    assert upgraded == net(after)
    assert len(announced) == notes
    assert all(note and "\n" not in note for note in announced)
    assert upgrade_net(upgraded) == []
    assert upgraded == net(after)


REFUSED = [
    ("layer { name: 'a' } layers { name: 'b' }", "both layer (e.g. 'a') and layers (e.g. 'b')"),
    ("input: ['x', 'y'] input_dim: [1, 2, 3, 4, 5]", "input 'y' is number 2 of 2, but there are"),
    ("input: ['x', 'y'] input_shape { }", "only 1 input_shape; add one for each input"),
    (
        "layers { layer { name: 'c' type: 'relu' } bottom: 'nosuch' }",
        "layer 'c' (number 1): no layer above it makes its bottom 'nosuch'",
    ),
    (
        "input: 'x' layers { layer { name: 'p' type: 'padding' } bottom: 'x' top: 'y' } "
        "layers { layer { name: 'r' type: 'relu' } bottom: 'y' }",
        "layer 'r' (relu) stands on the padding layer 'p', expected a layer that can pad",
    ),
    (
        "input: ['x', 'z'] layers { layer { name: 'p' type: 'padding' } bottom: 'x' top: 'y' } "
        "layers { layer { name: 'c' type: 'conv' } bottom: ['y', 'z'] }",
        "layer 'c' on the padding layer 'p': both must have one bottom",
    ),
    (
        "layers { layer { name: 'c' type: 'convv' } }",
        "layer 'c': the first generation had no type 'convv'; did you mean 'conv'?",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_problems_that_no_upgrade_solves_are_reported(text: str, sentence: str) -> None:
    with pytest.raises(NetError) as raised:
        upgrade_net(net(text))
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_solver_types_become_strings(old: str, new: str) -> None:
    text = f"base_lr: 3 solver_type: {old} net_param {{ input: 'x' }}"
    solver = parse_text(text, "SolverParameter")[0]
    assert len(upgrade_solver(solver, read_upgraded_net)) == 1
    expected = f"base_lr: 3 type: '{new}' net_param {{ input: 'x' }}"
    assert solver == parse_text(expected, "SolverParameter")[0]
    assert upgrade_solver(solver, read_upgraded_net) == []


def test_both_solver_types_are_refused_even_if_one_is_empty() -> None:
    with pytest.raises(SolverError, match=r"both solver_type and type \(''\); remove solver_type"):
        upgrade_solver(
            parse_text("solver_type: ADAM type: ''", "SolverParameter")[0], read_upgraded_net
        )


def test_every_old_type_has_a_name() -> None:
    numbers = schema.enum_names("V1LayerParameter.LayerType")
    own = {name: n for name, n in numbers.items() if n not in schema.FORK_NUMBERS}
    assert sorted(own, key=lambda name: own[name]) == list(layer_types.V1_TYPES)
    assert set(layer_types.V0_TYPES.values()) <= set(layer_types.V1_TYPES)
    assert layer_types.from_v1(own["LRN"]) == "LRN"
    assert layer_types.from_v1(own["SOFTMAX_LOSS"]) == "SoftmaxWithLoss"
    assert layer_types.from_v1(44) == "V1LayerType(44)"
    assert layer_types.from_v0("pool") == "Pooling"
    assert layer_types.from_v0("padding") == "padding"


def test_a_fork_s_old_type_keeps_its_name_with_a_note() -> None:
    upgraded = net("layers { name: 'c' type: CROP bottom: 'x' bottom: 'y' top: 'z' }")
    notes = upgrade_net(upgraded)
    assert upgraded == net("layer { name: 'c' type: 'CROP' bottom: 'x' bottom: 'y' top: 'z' }")
    assert notes[1] == "layer 'c': a fork's old type CROP keeps its name"


@pytest.mark.parametrize(
    ("old_type", "kept", "lost"),
    [("CCCP", "cccp_param", "bn_param"), ("BN", "bn_param", "cccp_param")],
)
def test_an_old_layer_keeps_the_parameters_of_its_own_type(
    old_type: str, kept: str, lost: str
) -> None:
    upgraded = net(f"layers {{ name: 'c' type: {old_type} bn_param {{ }} cccp_param {{ }} }}")
    notes = upgrade_net(upgraded)
    assert upgraded == net(f"layer {{ name: 'c' type: '{old_type}' {kept} {{ }} }}")
    sentence = f"left out {lost}, since a layer can have only one of {kept} and {lost}"
    assert notes[2] == f"layer 'c' ({old_type}): {sentence}"


def test_every_field_of_an_old_layer_has_a_place_in_today_s() -> None:
    old = schema.message_class("V1LayerParameter").DESCRIPTOR
    today = schema.message_class("LayerParameter").DESCRIPTOR.fields_by_name
    replaced = {"layer", "blobs_lr", "weight_decay", "blob_share_mode"}
    for entry in old.fields:
        assert entry.name in today or entry.name in replaced, entry.name


def test_what_is_lost_is_a_problem_and_the_rest_is_none() -> None:
    lossy = net("layers { layer { name: 'r' type: 'relu' num_output: 3 } loss_weight: 2 }")
    notes = upgrade_net(lossy)
    lost = [note for note in notes if isinstance(note, Problem)]
    assert lost == ["layer 'r' (relu): dropped num_output, which this type never had"]


def test_a_new_step_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouting.py").write_text(
        "from caffecompat.proto.upgrades import upgrade\n"
        "@upgrade('shouting', message='NetParameter', order=99, note='shouted the name',\n"
        "         needed=lambda net: net.name != net.name.upper())\n"
        "def shout(net):\n"
        "    net.name = net.name.upper()\n"
        "    return []\n"
    )
    package = caffecompat.proto.upgrades
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(UPGRADES, "_entries", dict(UPGRADES._entries))
    monkeypatch.setattr(UPGRADES, "_loaded", False)
    try:
        message = net("name: 'quiet' input: 'x'")
        notes = upgrade_net(message)
        assert message.name == "QUIET"
        assert notes[-1] == "shouted the name"
        assert upgrade_net(message) == []
    finally:
        sys.modules.pop(f"{package.__name__}.shouting", None)


def test_two_steps_of_one_name_are_refused() -> None:
    def other(message: Any) -> list[str]:
        return []

    list(UPGRADES)
    with pytest.raises(CaffeError, match=r"'v1 layers' is registered twice: .*replace_v1_layers"):
        upgrade("v1 layers", message="NetParameter", order=1, note="", needed=bool)(other)
    assert isinstance(UPGRADES.find("v1 layers"), Upgrade)
