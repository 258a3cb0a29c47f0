"""The V1 generation as it is written: fields, type numbers, four axes, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import WeightsError
from caffecompat.proto.schema import message_class
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights
from tests.places import COPIES
from tests.recorded.weight_files import copy_into, parameters

DATA = COPIES / "files"
V1 = "caffemodel-v1"


def small() -> Weights:
    filters = np.arange(36, dtype=np.float32).reshape(2, 3, 2, 3)
    return Weights(
        [
            LayerWeights("data", "Input", tops=["data", "more"]),
            LayerWeights(
                "conv",
                "Convolution",
                [filters, np.array([0.5, -1], np.float32)],
                [np.ones_like(filters), np.zeros(2, np.float32)],
                bottoms=["data"],
                tops=["conv"],
                phase=1,
            ),
            LayerWeights("fc", "InnerProduct", [np.full((4, 5), 2.5, np.float32)]),
            LayerWeights("prob", "Softmax", bottoms=["fc"], tops=["prob"]),
        ],
        "net",
    )


def test_what_a_protobuf_library_sees(tmp_path: Path) -> None:
    path = tmp_path / "v1.caffemodel"
    save_weights(small(), path, format=V1)
    net = message_class("NetParameter").FromString(path.read_bytes())
    assert net.SerializeToString() == path.read_bytes()
    assert (net.name, list(net.input), len(net.layer)) == ("net", ["data", "more"], 0)
    assert [layer.name for layer in net.layers] == ["conv", "fc", "prob"]
    assert [layer.type for layer in net.layers] == [4, 14, 20]
    conv, fc, _ = net.layers
    assert (list(conv.bottom), list(conv.top)) == (["data"], ["conv"])
    sizes = [(b.num, b.channels, b.height, b.width) for b in (*conv.blobs, *fc.blobs)]
    assert sizes == [(2, 3, 2, 3), (1, 1, 1, 2), (1, 1, 4, 5)]
    assert not any(blob.HasField("shape") for layer in net.layers for blob in layer.blobs)
    assert list(conv.blobs[1].data) == [0.5, -1]
    assert list(conv.blobs[0].diff) == [1] * 36


@pytest.mark.parametrize("folder", ["convnet", "shared"])
def test_a_file_of_caffe_goes_through_v1_and_back(folder: str, tmp_path: Path) -> None:
    source = DATA / folder / "v2.caffemodel"
    save_weights(load_weights(source), tmp_path / "v1.caffemodel", format=V1)
    back = load_weights(tmp_path / "v1.caffemodel")
    assert back.generation == "V1"
    net = parameters(DATA / folder / "io.npz")
    copied = copy_into(net, back)
    assert {n: [a.tobytes() for a in arrays] for n, arrays in copied.items()} == {
        n: [a.tobytes() for a in arrays] for n, arrays in net.items()
    }


@pytest.mark.parametrize("folder", ["convnet", "shared", "transposed_ip"])
def test_recorded_v1_file_is_written_as_it_was(folder: str, golden: Path, tmp_path: Path) -> None:
    """But for the fields that weights do not have, the bytes are those of the recorded files."""
    source = golden / "files" / folder / "v1.caffemodel"
    message = message_class("NetParameter").FromString(source.read_bytes())
    kept = {"name", "type", "bottom", "top", "blobs"}
    for layer in message.layers:
        for field, _ in layer.ListFields():
            if field.name not in kept:
                layer.ClearField(field.name)
    for name in [f.name for f, _ in message.ListFields() if f.name not in ("name", "layers")]:
        message.ClearField(name)
    save_weights(load_weights(source), tmp_path / "v1.caffemodel", format=V1)
    assert (tmp_path / "v1.caffemodel").read_bytes() == message.SerializeToString()


def test_generations_are_told_apart() -> None:
    for generation in ("v2", "v1", "v0"):
        weights = load_weights(DATA / "convnet" / f"{generation}.caffemodel")
        assert (weights.format, weights.generation) == ("caffemodel", generation.upper())


def test_a_number_of_a_fork_survives(tmp_path: Path) -> None:
    save_weights(Weights([LayerWeights("x", "V1LayerType(44)")]), tmp_path / "v1", format=V1)
    assert load_weights(tmp_path / "v1")["x"].type == "V1LayerType(44)"


def test_what_v1_cannot_hold_is_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    array = np.zeros(3, np.float32)
    wrong = Weights(
        [
            LayerWeights("bn", "BatchNorm", [array]),
            LayerWeights("deep", "Convolution", [np.zeros((1, 2, 3, 1, 2), np.float32)]),
            LayerWeights("untyped", "", [array]),
            LayerWeights("relu", "ReLU"),
        ]
    )
    with pytest.raises(WeightsError) as caught:
        save_weights(wrong, tmp_path / "v1.caffemodel", format=V1)
    first, second, third = str(caught.value).splitlines()
    assert "layer 'bn' (BatchNorm): the V1 generation has no such type" in first
    assert "layer 'deep' (Convolution): blob 0 has 5 axes" in second
    assert "layer 'untyped' has no type" in third
    assert "--model" in third
    assert list(tmp_path.iterdir()) == []
