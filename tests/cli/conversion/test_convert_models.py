"""``caffecompat convert``: definitions that are found, files that are kept, changes on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.export.definitions import embedded_definition
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.proto.files import read_net, write_binary
from caffecompat.proto.text.parser import parse_text
from caffecompat.weights import load_weights, save_weights

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
PIXELS = np.random.default_rng(3).standard_normal((1, 3, 6, 6)).astype(np.float32)


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A definition, ``deploy.prototxt``, and weights, ``small.caffemodel``."""
    (tmp_path / "deploy.prototxt").write_text(NET)
    Net(tmp_path / "deploy.prototxt", seed=5).save(tmp_path / "small.caffemodel")
    return tmp_path


@pytest.fixture
def without_settings(folder: Path) -> Path:
    """``folder``, whose weights hold names, types and wiring of layers alone."""
    weights = Net(folder / "deploy.prototxt", weights=folder / "small.caffemodel").to_weights()
    save_weights(weights, folder / "small.caffemodel")
    return folder


def outputs(prototxt: Path, weights: Path, pixels: np.ndarray = PIXELS) -> np.ndarray:
    return Net(prototxt, weights=weights).forward(data=pixels)["fc"]


def test_a_caffemodel_alone_becomes_safetensors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder / "small.caffemodel") == 0
    out = capsys.readouterr().out
    assert f"definition: {folder}/deploy.prototxt (beside the weights)" in out
    assert "keys: conv1.weight, conv1.bias, fc.weight, ... (4)" in out
    assert "4 arrays equal bit for bit" in out
    found = load_weights(folder / "small.safetensors")
    assert read_net(folder / "deploy.prototxt")[0].layer[1].name == "conv1"
    assert 'name: "conv1"' in found.metadata["prototxt"]
    deploy = folder / "deploy.prototxt"
    expected = outputs(deploy, folder / "small.caffemodel")
    np.testing.assert_array_equal(outputs(deploy, folder / "small.safetensors"), expected)


def test_the_shown_lines_load_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors")
    assert run(folder / "small.caffemodel") == 0
    lines = [x[2:] for x in capsys.readouterr().out.splitlines() if x.startswith("  ")]
    found: dict[str, dict[str, object]] = {}
    exec("\n".join(lines), found)
    assert list(found["state"]) == ["conv1.weight", "conv1.bias", "fc.weight", "fc.bias"]


def test_nothing_is_replaced_without_force(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "x.npz"
    target.write_bytes(b"mine")
    assert run(folder / "small.caffemodel", target) == 1
    assert capsys.readouterr().err.endswith(
        f"{target}: exists already; --force replaces it, or name another target\n"
    )
    assert target.read_bytes() == b"mine"
    assert run(folder / "small.caffemodel", target, "--force") == 0
    assert len(load_weights(target)) == 2


def test_several_definitions_that_fit_are_named(
    without_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_settings
    (folder / "other.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text('net: "deploy.prototxt"')
    (folder / "unrelated.prototxt").write_text(NET.replace("conv1", "conv2"))
    assert run(folder / "small.caffemodel") == 0
    out = capsys.readouterr().out
    assert "several definitions beside the weights fit: deploy.prototxt, other.prototxt;" in out
    assert "prototxt" not in load_weights(folder / "small.safetensors").metadata
    (folder / "small.prototxt").write_text(NET)
    assert run(folder / "small.caffemodel", "--force") == 0
    assert f"definition: {folder}/small.prototxt" in capsys.readouterr().out


def test_a_deploy_net_is_preferred_to_one_that_reads_data(folder: Path) -> None:
    data = 'layer { name: "data" type: "Data" top: "data" data_param { source: "x" } }'
    (folder / "train.prototxt").write_text(data + NET[NET.index('layer { name: "conv1"') :])
    assert run(folder / "small.caffemodel") == 0
    assert "input_param" in load_weights(folder / "small.safetensors").metadata["prototxt"]


@pytest.mark.parametrize("form", ["current", "old"])
def test_the_definition_inside_of_a_model_file(form: str, folder: Path) -> None:
    message = read_net(folder / "deploy.prototxt")[0]
    for layer in message.layer:
        if layer.name in ("conv1", "fc"):
            layer.blobs.add().data.extend([1.0] * 500)
    model = folder / "own" / "trained.caffemodel"
    model.parent.mkdir()
    if form == "old":
        text = """
            layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1
                     blobs_lr: 2 convolution_param { num_output: 4 kernel_size: 3 stride: 2 }
                     blobs { num: 4 channels: 3 height: 3 width: 3 } }"""
        message = parse_text('input: "data" input_dim: [1, 3, 6, 6]' + text, "NetParameter", "x")[0]
        message.layers[0].blobs[0].data.extend([1.0] * 108)
    write_binary(message, model)
    found = embedded_definition(model)
    assert found is not None
    by_name = {layer.name: layer for layer in found.message.layer}
    assert by_name["conv1"].convolution_param.num_output == 4
    assert not by_name["conv1"].blobs
    if form == "old":
        assert [p.lr_mult for p in by_name["conv1"].param] == [1, 2]


STORED = """
layer { name: "data" type: "Input" top: "data" phase: TRAIN
        input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "data_data_0_split" type: "Split" bottom: "data" phase: TRAIN
        top: "data_data_0_split_0" top: "data_data_0_split_1" }
layer { name: "conv" type: "Convolution" bottom: "data_data_0_split_0" top: "conv" phase: TRAIN
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" phase: TRAIN }
layer { name: "mine" type: "Split" bottom: "data_data_0_split_1" top: "a" top: "b" phase: TRAIN }
layer { name: "fc" type: "InnerProduct" bottom: "a" top: "fc" phase: TRAIN
        inner_product_param { num_output: 2 } }
"""


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_what_caffe_adds_to_a_stored_net_is_left_out(phase: str, tmp_path: Path) -> None:
    message, _ = parse_text(STORED.replace("TRAIN", phase), "NetParameter", "x")
    message.layer[2].blobs.add().data.extend([1.0] * 54)
    write_binary(message, tmp_path / "stored.caffemodel")
    found = embedded_definition(tmp_path / "stored.caffemodel")
    assert found is not None
    wiring = [(x.name, list(x.bottom), list(x.top)) for x in found.message.layer]
    assert wiring == [
        ("data", [], ["data"]),
        ("conv", ["data"], ["conv"]),
        ("drop", ["conv"], ["conv"]),
        ("mine", ["data"], ["a", "b"]),
        ("fc", ["a"], ["fc"]),
    ]
    assert not any(layer.HasField("phase") for layer in found.message.layer)


def test_phases_that_differ_and_a_split_of_a_loss_are_kept(tmp_path: Path) -> None:
    text = STORED.replace("phase: TRAIN", "", 1).replace(
        'top: "data_data_0_split_1" }', 'top: "data_data_0_split_1" loss_weight: 2 loss_weight: 0 }'
    )
    message, _ = parse_text(text, "NetParameter", "x")
    message.layer[2].blobs.add().data.extend([1.0] * 54)
    write_binary(message, tmp_path / "stored.caffemodel")
    found = embedded_definition(tmp_path / "stored.caffemodel")
    assert found is not None
    assert found.message == parse_text(text, "NetParameter", "x")[0]


def test_layers_without_settings_are_no_definition(
    without_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_settings
    assert embedded_definition(folder / "small.caffemodel") is None
    (folder / "deploy.prototxt").unlink()
    assert run(folder / "small.caffemodel") == 0
    assert "definition:" not in capsys.readouterr().out


def test_types_come_from_a_definition_beside(folder: Path) -> None:
    save_weights(load_weights(folder / "small.caffemodel"), folder / "x.npz")
    assert run(folder / "x.npz") == 0
    assert load_weights(folder / "x.caffemodel")["fc"].type == "InnerProduct"


def test_the_definition_in_the_metadata_comes_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder / "small.caffemodel") == 0
    capsys.readouterr()
    assert run(folder / "small.safetensors", folder / "back.caffemodel") == 0
    assert "definition: from the file's metadata" in capsys.readouterr().out
    broken = load_weights(folder / "small.safetensors")
    broken.metadata["prototxt"] = "layer {"
    save_weights(broken, folder / "broken.safetensors", naming=torch_naming())
    assert run(folder / "broken.safetensors", folder / "c.caffemodel") == 1
    assert "broken.safetensors: its prototxt:1:1: layer, opened" in capsys.readouterr().err


def test_a_net_for_rgb(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    side = folder / "small.caffemodel.preprocessing.json"
    side.write_text(Preprocessing("BGR", (104.0, 117.0, 123.0)).to_json())
    assert run(folder / "small.caffemodel", folder / "rgb.npz", "--rgb") == 0
    out = capsys.readouterr().out
    assert "the input is R, G, B from 0 to 255, minus 123, 117, 104, times 1" in out
    assert "Normalize(mean=[0.482353, 0.458824, 0.407843], std=[0.00392157])" in out
    found = json.loads((folder / "rgb.npz.preprocessing.json").read_text())
    assert (found["channel_order"], found["mean"]) == ("RGB", [123.0, 117.0, 104.0])
    deploy = folder / "deploy.prototxt"
    np.testing.assert_allclose(
        outputs(deploy, folder / "rgb.npz", PIXELS[:, ::-1].copy()),
        outputs(deploy, folder / "small.caffemodel"),
        rtol=1e-5,
        atol=1e-6,
    )


def test_rgb_where_there_is_nothing_to_swap(
    without_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = without_settings
    (folder / "gray.prototxt").write_text(NET.replace("dim: 3 dim: 6", "dim: 1 dim: 6"))
    Net(folder / "gray.prototxt").save(folder / "gray.caffemodel")
    target = folder / "x.npz"
    assert run(folder / "gray.caffemodel", target, "--rgb", "--model", folder / "gray.prototxt")
    assert "layer 'conv1' (Convolution) reads the input; --rgb needs" in capsys.readouterr().err
    assert not target.exists()
    (folder / "deploy.prototxt").unlink()
    (folder / "gray.prototxt").unlink()
    assert run(folder / "small.caffemodel", target, "--rgb") == 1
    assert "--rgb needs the net's definition" in capsys.readouterr().err


def test_rgb_of_a_net_that_reads_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = """layer { name: "data" type: "MemoryData" top: "data" top: "label" memory_data_param {
                      batch_size: 1 channels: 3 height: 6 width: 6 } }"""
    (folder / "train.prototxt").write_text(data + NET[NET.index('layer { name: "conv1"') :])
    command = (folder / "small.caffemodel", folder / "x.npz", "--rgb", "--model")
    assert run(*command, folder / "train.prototxt") == 1
    assert "has none; name a deploy definition (--model)" in capsys.readouterr().err
    assert run(*command, folder / "deploy.prototxt") == 0
    assert "swapped the input channels of conv1" in capsys.readouterr().out


def test_a_damaged_preprocessing_beside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "small.caffemodel.preprocessing.json").write_text('{"mean": "104"}')
    assert run(folder / "small.caffemodel") == 1
    assert "'mean' of the preprocessing is '104', expected a list" in capsys.readouterr().err
    assert not (folder / "small.safetensors").exists()


def test_a_side_file_is_not_replaced_either(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "small.caffemodel.preprocessing.json").write_text(Preprocessing().to_json())
    (folder / "x.npz.preprocessing.json").write_text("mine")
    assert run(folder / "small.caffemodel", folder / "x.npz") == 1
    assert "x.npz.preprocessing.json: exists already" in capsys.readouterr().err
    assert not (folder / "x.npz").exists()


@pytest.mark.parametrize(("dialect", "side"), [("", 11), ("openvino", 12)])
def test_the_dialect_decides_what_a_layer_computes(dialect: str, side: int, tmp_path: Path) -> None:
    """OpenVINO's Interp makes 12 rows of 6 where PSPNet's makes 11."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    enlarge = """layer { name: "enlarge" type: "Interp" bottom: "conv1" top: "enlarge"
        interp_param { zoom_factor: 2 } }"""
    conv = NET[: NET.index('layer { name: "relu1"')].replace("stride: 2", "pad: 1 stride: 1")
    (tmp_path / "net.prototxt").write_text(conv + enlarge)
    weights, target = tmp_path / "net.caffemodel", tmp_path / "net.onnx"
    Net(tmp_path / "net.prototxt", seed=5).save(weights)
    flags = ["--dialect", dialect] if dialect else []
    assert run(weights, target, "--remove-dropout", *flags) == 0
    found = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    assert found.run(None, {"data": PIXELS})[0].shape == (1, 4, side, side)
    assert main(["verify", str(weights), str(target), *flags]) == 0
    other = [] if dialect else ["--dialect", "openvino"]
    assert main(["verify", str(weights), str(target), *other]) == 1
