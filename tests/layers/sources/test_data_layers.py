"""ImageData, WindowData, MemoryData and HDF5Output as layers of a net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from caffecompat.errors import CaffeError, DataError, FileProblem, LayerError
from caffecompat.layers.memory_data import MemoryData
from caffecompat.net import Net
from caffecompat.proto.text.parser import parse_text
from tests.places import COPIES
from tests.recorded.tolerances import IMAGE_LEVELS
from tests.sentences import assert_one_sentence

DATA = COPIES / "data"

LOSS = (
    "layer { name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'ip' "
    "inner_product_param { num_output: 4 weight_filler { type: 'xavier' } } } "
    "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'ip' bottom: 'label' top: 'loss' }"
)


def net(text: str, phase: str = "TEST", **options: Any) -> Net:
    return Net(parse_text(text, "NetParameter")[0], phase=phase, seed=3, **options)


def source(kind: str, text: str, tops: str = "top: 'data' top: 'label'") -> str:
    return f"layer {{ name: 'd' type: '{kind}' {tops} {text} }} "


@pytest.mark.parametrize(
    "name", ["image_resized_crop_mean", "window_square_context_mean", "data_plain_leveldb"]
)
def test_nets_get_what_caffes_nets_got(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA / "layers" / name)
    case = json.loads(Path("case.json").read_text())
    recorded = np.load("out.npz")
    built = Net("net.prototxt", phase=case["phase"])
    for index in range(case["passes"]):
        outputs = built.run(index).outputs
        for blob in case["blobs"]:
            expected = recorded[f"{index}/{blob}"]
            assert tuple(outputs[blob].shape) == expected.shape
            np.testing.assert_allclose(outputs[blob], expected, rtol=0, atol=IMAGE_LEVELS)
    for layer in built.layers:
        if layer.source is not None:
            layer.source.close()
            with pytest.raises(LayerError, match="built with shapes_only=True"):
                layer.source.read(0)


@pytest.mark.parametrize(
    ("kind", "text", "shape"),
    [
        ("ImageData", "image_data_param { source: 'no' new_height: 5 new_width: 7 }", (1, 3, 5, 7)),
        (
            "ImageData",
            "image_data_param { source: 'no' is_color: false batch_size: 2 } "
            "transform_param { crop_size: 6 }",
            (2, 1, 6, 6),
        ),
        (
            "WindowData",
            "window_data_param { source: 'no' batch_size: 4 } transform_param { crop_size: 9 }",
            (4, 3, 9, 9),
        ),
    ],
)
def test_shapes_without_the_files(kind: str, text: str, shape: tuple[int, ...]) -> None:
    built = net(source(kind, text), shapes_only=True)
    assert [built.layers[0].shapes[0], built.layers[0].shapes[1]] == [shape, shape[:1]]


@pytest.mark.parametrize(
    ("kind", "text", "error", "words"),
    [
        (
            "ImageData",
            "image_data_param { source: 'no' }",
            FileProblem,
            "no: there is no list of images",
        ),
        ("WindowData", "transform_param { crop_size: 3 }", DataError, "batch_size is 0"),
        ("MemoryData", "memory_data_param { batch_size: 2 }", LayerError, "channels 0"),
    ],
)
def test_bad_definitions_name_the_layer(
    kind: str, text: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=rf"layer 'd' \({kind}\): .*{words}") as caught:
        net(source(kind, text))
    assert_one_sentence(str(caught.value))


def test_an_unknown_size_names_the_remedy() -> None:
    with pytest.raises(FileProblem, match=r"no crop_size, .* --shape .* no list of images"):
        net(source("ImageData", "image_data_param { source: 'no' }"), shapes_only=True)


MEMORY = "memory_data_param { batch_size: 2 channels: 1 height: 2 width: 3 }"


def memory(built: Net) -> MemoryData:
    layer = built.layers[0].layer
    assert isinstance(layer, MemoryData)
    return layer


def test_memory_data_feeds_a_net_and_its_loss() -> None:
    built = net(source("MemoryData", MEMORY) + LOSS)
    data = np.random.default_rng(0).random((6, 1, 2, 3))
    memory(built).set(data, np.arange(6) % 4)
    losses = [built.run(index).outputs["loss"].item() for index in range(4)]
    assert losses[3] == losses[0] != losses[1]
    assert np.isfinite(losses).all()
    assert built.blobs["label"].data.shape == (2, 1, 1, 1)


def test_new_arrays_begin_with_their_first_row() -> None:
    built = net(source("MemoryData", MEMORY))
    layer = memory(built)
    rows = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3)
    layer.set(rows, np.arange(4))
    assert [layer.read(index)[1].ravel().tolist() for index in (0, 1, 2)] == [
        [0, 1],
        [2, 3],
        [0, 1],
    ]
    layer.set(torch.from_numpy(rows + 100), torch.arange(4) + 5)
    assert layer.read(3)[1].ravel().tolist() == [5, 6]
    assert float(layer.read(3)[0][0, 0, 0, 0]) == 100
    assert layer.read(4)[1].ravel().tolist() == [7, 8]


@pytest.mark.parametrize(
    ("data", "labels", "words"),
    [
        ((4, 1, 3, 2), 4, "are 4x1x3x2, expected rowsx1x2x3"),
        ((4, 1, 2, 3), 3, "4 rows of data but 3 labels"),
        ((3, 1, 2, 3), 3, "3 rows were given, expected a multiple of the batch size 2"),
        ((0, 1, 2, 3), 0, "0 rows were given"),
    ],
)
def test_memory_data_refuses_what_does_not_fit(
    data: tuple[int, ...], labels: int, words: str
) -> None:
    layer = memory(net(source("MemoryData", MEMORY)))
    with pytest.raises(LayerError, match=words):
        layer.set(np.zeros(data), np.zeros(labels))
    with pytest.raises(LayerError, match="has no data yet"):
        layer.read(0)


def test_memory_data_of_caffe_on_spark() -> None:
    text = MEMORY.replace("{", "{ source: 'images' share_in_parallel: false", 1)
    built = net(source("MemoryData", text))
    assert [note for note in built.notes if "memory_data_param" in note or "source" in note] == [
        "layer 'd' (MemoryData): source 'images' names data for CaffeOnSpark and is not read; "
        "set the layer's data with its method set(data, labels)"
    ]


def test_memory_data_does_not_transform(caplog: pytest.LogCaptureFixture) -> None:
    net(source("MemoryData", MEMORY + " transform_param { scale: 2 }"))
    assert "transform_param has no effect on arrays" in caplog.text


@pytest.mark.parametrize("name", ["flat", "four"])
def test_hdf5_output_writes_what_caffe_wrote(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = DATA / "layers" / "hdf5_output"
    monkeypatch.chdir(tmp_path)
    built = Net(recorded / f"{name}.prototxt")
    assert list(tmp_path.iterdir()) == []
    built.run(0)
    with h5py.File(f"{name}.h5") as found, h5py.File(recorded / f"{name}.h5") as expected:
        assert sorted(found) == sorted(expected)
        for key in expected:
            assert found[key].dtype == expected[key].dtype
            assert np.array_equal(found[key][()], expected[key][()])
    with pytest.raises(CaffeError, match="holds the first pass already"):
        built.run(1)


def test_hdf5_output_takes_at_most_four_axes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LayerError, match=r"layer 'o' \(HDF5Output\): .*2x1x2x2x2"):
        Net(DATA / "layers" / "hdf5_output" / "five_axes.prototxt")
    assert list(tmp_path.iterdir()) == []


def test_hdf5_output_stops_no_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = source("MemoryData", MEMORY) + LOSS
    text += (
        "layer { name: 'o' type: 'HDF5Output' bottom: 'ip' bottom: 'label' "
        "hdf5_output_param { file_name: 'out.h5' } }"
    )
    built = net(text, phase="TRAIN")
    memory(built).set(np.ones((2, 1, 2, 3)), np.zeros(2))
    built.run(0).loss.backward()
    assert built.params["ip"][0].grad is not None
    with h5py.File("out.h5") as file:
        assert file["data"].shape == (2, 4, 1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no file_name"),
        ("hdf5_output_param { file_name: 'nosuch/x.h5' }", "nosuch/x.h5: cannot be written"),
    ],
)
def test_hdf5_output_refused(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    feed = "dummy_data_param { shape { dim: 2 dim: 3 } }"
    with pytest.raises(CaffeError, match=rf"layer 'o' \(HDF5Output\): .*{words}"):
        net(
            source("DummyData", feed)
            + f"layer {{ name: 'o' type: 'HDF5Output' bottom: 'data' bottom: 'label' {text} }}"
        ).run(0)
