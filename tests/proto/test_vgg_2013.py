"""Definitions of the VGG group's Caffe of 2013 become today's, with a note for each thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caffecompat.errors import NetError, SolverError
from caffecompat.proto import files
from caffecompat.proto.files import read_upgraded_net
from caffecompat.proto.text.parser import parse_text
from caffecompat.proto.upgrades import Problem, upgrade_net, upgrade_solver

NET = """
name: 'vgg'
layers {
  layer {
    name: 'data' type: 'images' source: 'list.txt' root_img_dir: '/images' batchsize: 32
    cropsize: 224 mirror: true crop_meanfile: 'crop_mean.binaryproto'
    img_aug_type: 3 img_sampling_type: 1
  }
  top: 'data' top: 'label'
}
layers {
  layer {
    name: 'conv1' type: 'conv' num_output: 64 kernelsize: 3 pad: 1
    weight_filler { type: 'model' model_path: 'A.caffemodel' model_layer_name: 'conv1_1' }
    bias_filler { type: 'constant' value: 0.5 }
  }
  bottom: 'data' top: 'conv1'
}
layers { layer { name: 'norm' type: 'lrn' k: 2 } bottom: 'conv1' top: 'norm' }
layers {
  layer { name: 'accuracy' type: 'accuracy' top_k: 1 top_k: 5 label_rank: 0 margin: 1 }
  bottom: 'norm' bottom: 'label' top: 'accuracy'
}
"""
TODAY = """
name: 'vgg'
layer {
  name: 'data' type: 'ImageData' top: 'data' top: 'label'
  transform_param { crop_size: 224 mirror: true crop_mean_file: 'crop_mean.binaryproto' }
  image_data_param { source: 'list.txt' root_folder: '/images/' batch_size: 32 }
}
layer {
  name: 'conv1' type: 'Convolution' bottom: 'data' top: 'conv1'
  convolution_param {
    num_output: 64 pad: 1 kernel_size: 3
    weight_filler { type: 'model' model_path: 'A.caffemodel' model_layer_name: 'conv1_1' }
    bias_filler { type: 'constant' value: 0.5 }
  }
}
layer { name: 'norm' type: 'LRN' bottom: 'conv1' top: 'norm' lrn_param { k: 2 } }
layer {
  name: 'accuracy' type: 'Accuracy' bottom: 'norm' bottom: 'label' top: 'accuracy'
  accuracy_param { top_k: 1 }
}
layer {
  name: 'accuracy_top5' type: 'Accuracy' bottom: 'norm' bottom: 'label' top: 'accuracy_top5'
  accuracy_param { top_k: 5 }
}
"""


def net(text: str) -> Any:
    return parse_text(text, "NetParameter")[0]


def solver(text: str) -> Any:
    return parse_text(text, "SolverParameter")[0]


def test_a_net_becomes_today_s_with_a_note_for_each_thing() -> None:
    upgraded = net(NET)
    notes = upgrade_net(upgraded)
    assert upgraded == net(TODAY)
    assert upgrade_net(upgraded) == []
    told = "\n".join(notes)
    for name in (
        "root_img_dir became image_data_param.root_folder",
        "crop_meanfile became transform_param.crop_mean_file",
        "dropped img_aug_type: 3; the meaning of its values is not public",
        "dropped img_sampling_type: 1",
        "weight_filler takes its values from layer 'conv1_1' of 'A.caffemodel'",
        "top_k 1, 5 became a layer for each value",
        "dropped label_rank, which had its neutral value",
        "dropped margin, which had its neutral value",
    ):
        assert told.count(name) == 1, name
    lost = [note for note in notes if isinstance(note, Problem)]
    assert len(lost) == 2


# One layer of the first generation, and the note that it gets; all else stays silent.
DROPPED = [
    ("type: 'data' root_img_dir: 'x'", "dropped root_img_dir, which only lists of images have"),
    ("type: 'conv' top_k: 3", "dropped top_k, which only accuracy layers have"),
    ("type: 'softmax' vis_label: 7", "dropped vis_label: 7; it served pictures of what a class"),
    ("type: 'softmax' save_dir: 'd'", "dropped save_dir: d; it served pictures"),
    ("type: 'softmax' channels: 3", "dropped channels: 3; it served pictures"),
]


@pytest.mark.parametrize(("layer", "note"), DROPPED)
def test_what_has_no_successor_is_dropped_as_a_problem(layer: str, note: str) -> None:
    message = net(f"layers {{ layer {{ name: 'l' {layer} }} top: 'y' }}")
    lost = [line for line in upgrade_net(message) if isinstance(line, Problem)]
    assert len(lost) == 1
    assert note in lost[0]
    assert upgrade_net(message) == []


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("label_rank: 2", "layer 'a' (accuracy) has label_rank 2, but today's layers use"),
        ("margin: 0.5", "layer 'a' (accuracy) has margin 0.5, but the margin of today's HingeLoss"),
    ],
)
def test_what_would_change_the_result_is_refused_with_its_line(
    tmp_path: Path, setting: str, sentence: str
) -> None:
    path = tmp_path / "old.prototxt"
    path.write_text(f"name: 'n'\n\nlayers {{ layer {{ name: 'a' type: 'accuracy' {setting} }} }}")
    with pytest.raises(NetError) as raised:
        files.read_net(path)
    assert str(raised.value).startswith(f"{path}:3: {sentence}")


def test_break_points_become_a_multistep_policy() -> None:
    message = solver(
        "base_lr: 0.01 breakpoint: [10, 25, 60] display_debug: 1 load_solver_state: false "
        "snapshot_history_length: 4 momentum: 0.9"
    )
    notes = upgrade_solver(message, read_upgraded_net)
    assert message == solver(
        "base_lr: 0.01 momentum: 0.9 lr_policy: 'multistep' gamma: 0.1 stepvalue: [10, 25, 60]"
    )
    assert notes[1].startswith("breakpoint 10, 25, 60 became lr_policy")
    assert len(notes) == 5
    assert upgrade_solver(message, read_upgraded_net) == []


TRAIN = "layers { layer { name: 'd' type: 'data' batchsize: 64 } top: 'x' } "


def test_a_bigger_batch_becomes_iter_size(tmp_path: Path) -> None:
    path = tmp_path / "train.prototxt"
    path.write_text(TRAIN)
    inline = "layer { type: 'Data' data_param { batch_size: 64 } include { phase: TRAIN } } layer "
    inline += "{ type: 'Data' data_param { batch_size: 50 } include { phase: TEST } }"
    for where in (f"train_net: '{path}'", f"net: '{path}'", f"net_param {{ {inline} }}"):
        message = solver(f"{where} batchsize: 256")
        before = solver(where)
        notes = upgrade_solver(message, read_upgraded_net)
        before.iter_size = 4
        assert message == before
        assert notes[1] == "batchsize 256 became iter_size: 4, since the data comes by 64"


REFUSED = [
    ("batchsize: 128", "batchsize needs the train net; replace it by iter_size"),
    ("train_net: 'no such' batchsize: 128", "batchsize needs the train net, and no such: there is"),
    ("net_param { name: 'n' } batchsize: 8", "one batch size in the train net, found none"),
    ("iter_size: 2 batchsize: 128", "both batchsize and iter_size are given"),
    (
        "net_param { layer { data_param { batch_size: 3 } } layer { image_data_param { "
        "batch_size: 5 } } } batchsize: 15",
        "one batch size in the train net, found 3, 5",
    ),
    (
        "net_param { layer { data_param { batch_size: 48 } } } batchsize: 100",
        "batchsize is 100, which is no multiple of the data layer's batch of 48",
    ),
    ("breakpoint: 3 lr_policy: 'step'", "divides the rate by 10, and lr_policy 'step'"),
    ("breakpoint: 3 stepvalue: 5", "or stepvalue says otherwise"),
    ("breakpoint: 3 gamma: 0.5", "but gamma is 0.5; remove gamma"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_contradictions_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(SolverError) as raised:
        upgrade_solver(solver(text), read_upgraded_net)
    assert sentence in str(raised.value)


def test_a_refused_solver_names_file_and_lines(tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text("base_lr: 1\ngamma: 0.5\nbreakpoint: 3\n")
    with pytest.raises(SolverError) as raised:
        files.read_solver(path)
    assert str(raised.value).startswith(
        f"{path}:3: breakpoint on line 3 divides the rate by 10, but gamma is 0.5 on line 2; "
    )
