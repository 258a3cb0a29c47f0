"""Preprocessing through ``caffecompat convert``: where it is from, where it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.data.preprocessing_presets import PRESETS
from caffecompat.export.convert.opencv_lines import blob_lines
from caffecompat.weights import load_weights, write_mean

BODY = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 2 kernel_size: 3 } }
"""
NET = (
    """layer { name: "data" type: "Input" top: "data"
               input_param { shape { dim: 1 dim: 3 dim: 8 dim: 6 } } }"""
    + BODY
)


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "deploy.prototxt").write_text(NET)
    path = tmp_path / "net.caffemodel"
    Net(tmp_path / "deploy.prototxt").save(path)
    return path


def written(model: Path) -> Preprocessing:
    text = load_weights(model.with_suffix(".safetensors")).metadata["preprocessing"]
    return Preprocessing.from_json(text)


def test_a_preset_takes_its_crop_from_the_net(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = model.parent / "labels.txt"
    labels.write_text("n01 tench\nn02 goldfish\n")
    assert run(model, "--preprocessing", "vgg", "--labels", labels) == 0
    assert (
        "preprocessing: shorter side resized to 256 (bilinear), central crop 8 x 6, B, G, R from 0 "
        "to 255, minus 103.939, 116.779, 123.68, 2 labels\n" in capsys.readouterr().out
    )
    found = written(model)
    assert (found.mean, found.crop) == ((103.939, 116.779, 123.68), (8, 6))
    assert found.labels == ("n01 tench", "n02 goldfish")


def test_it_travels_from_file_to_file(model: Path) -> None:
    folder = model.parent
    assert run(model, "--preprocessing", "caffenet") == 0
    assert run(folder / "net.safetensors", folder / "x.npz") == 0
    assert json.loads((folder / "x.npz.preprocessing.json").read_text())["resize"] == [256, 256]
    assert run(folder / "x.npz", folder / "y.pt") == 0
    found = Preprocessing.from_json(load_weights(folder / "y.pt").metadata["preprocessing"])
    assert found == written(model)


def test_a_mean_of_ones_own(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, "--preprocessing", "digits") == 1
    assert "its mean is that of your own data; give it with --mean" in capsys.readouterr().err
    image = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    write_mean(image, model.parent / "mean.binaryproto")
    arguments = ("--preprocessing", "digits", "--mean")
    assert run(model, *arguments, model.parent / "mean.binaryproto") == 0
    assert written(model).mean == (3.5, 11.5, 19.5)
    assert run(model, *arguments, "1,2.5,3", "--force") == 0
    assert written(model).mean == (1, 2.5, 3)
    for wrong in ("1,x,3", "nan", "1,,2", "inf"):
        assert run(model, *arguments, wrong, "--force") == 1
        assert f"--mean {wrong}: expected" in capsys.readouterr().err
    assert run(model, "--mean", "1,2,3", "--force") == 1
    assert "--mean and --labels need a preprocessing" in capsys.readouterr().err
    assert run(model, "--preprocessing", "vggg", "--force") == 2


TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" include { phase: TRAIN }
        transform_param { mirror: true crop_size: 4 mean_value: 9 }
        data_param { source: "x" batch_size: 2 } }
layer { name: "data" type: "ImageData" top: "data" include { phase: TEST }
        transform_param { TRANSFORM }
        image_data_param { source: "x" new_height: 10 new_width: 12 batch_size: 2 } }
"""


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (
            "crop_size: 6 mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5",
            Preprocessing("BGR", (1, 2, 3), 0.5, (10, 12), (6, 6)),
        ),
        ("force_gray: true", Preprocessing("gray", (0,), 1, (10, 12))),
        ('mean_file: "mean.binaryproto"', Preprocessing("BGR", (3.5, 11.5, 19.5), 1, (10, 12))),
        ('mean_file: "missing.binaryproto"', Preprocessing("BGR", (0,), 1, (10, 12))),
    ],
)
def test_the_data_layer_for_test_says_it(
    transform: str,
    expected: Preprocessing,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = model.parent
    (folder / "deploy.prototxt").unlink()
    (folder / "train_val.prototxt").write_text(TRAIN_VAL.replace("TRANSFORM", transform) + BODY)
    image = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    write_mean(image, folder / "mean.binaryproto")
    monkeypatch.chdir(folder)
    assert run(model) == 0
    assert written(model) == expected
    out = capsys.readouterr().out
    assert ("cannot be used, and the preprocessing has no mean" in out) == ("missing" in transform)
    assert ("the mean of each channel is kept" in out) == ('"mean.' in transform)


def numpy_blob(image: np.ndarray, how: Preprocessing) -> np.ndarray:
    """The net's input by the definition of the attributes, for images that are not resized."""
    if how.crop:
        y, x = ((side - crop) // 2 for side, crop in zip(image.shape, how.crop, strict=False))
        image = image[y : y + how.crop[0], x : x + how.crop[1]]
    values = image.astype(np.float64)
    if how.channel_order == "gray":
        values = values[:, :, None]
    elif how.channel_order == "RGB":
        values = values[:, :, ::-1]
    scaled: np.ndarray = ((values - np.array(how.mean)) * how.scale).transpose(2, 0, 1)[None]
    return scaled


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing("BGR", (1.5, 2.5, 3.5), 0.5, None, (6, 4)),
        Preprocessing("RGB", (1.5, 2.5, 3.5), 0.5, None, (6, 4)),
        Preprocessing("BGR", (7.0,)),
        Preprocessing("gray", (7.0,), 2.0),
    ],
)
def test_the_lines_for_opencv_do_what_they_say(
    how: Preprocessing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = (9, 7) if how.channel_order == "gray" else (9, 7, 3)
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    cv2.imwrite("image.png", image)
    found: dict[str, Any] = {}
    exec("\n".join(blob_lines(how)).replace("image.jpg", "image.png"), found)
    np.testing.assert_allclose(found["blob"], numpy_blob(image, how), rtol=1e-6, atol=1e-5)
    folded: dict[str, Any] = {}
    exec("\n".join(blob_lines(how, folded=True)).replace("image.jpg", "image.png"), folded)
    assert 0 <= folded["blob"].min() < folded["blob"].max() <= 1


def test_the_lines_for_opencv_resize_by_the_shorter_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("image.jpg", np.zeros((30, 60, 3), np.uint8))
    assert run(model, "--preprocessing", "vgg", "--for", "opencv5", "--to", "npz") == 0
    lines = capsys.readouterr().out.partition("for opencv5:\n")[2].splitlines()
    found: dict[str, Any] = {}
    exec("\n".join(line[2:] for line in lines), found)
    assert found["blob"].shape == (1, 3, 8, 6)
    assert found["size"] == [512, 256]
    assert run(model, "--for", "opencv5", "--to", "hdf5") == 0
    assert "for opencv5: the preprocessing is not known" in capsys.readouterr().out


def test_presets_are_complete() -> None:
    assert set(PRESETS) == {
        *("vgg", "caffenet", "pycaffe-classifier", "digits", "none"),
        *("ssd", "mobilenet-ssd", "faster-rcnn"),
    }
    for make, text in PRESETS.values():
        assert Preprocessing.from_json(make((5, 4)).to_json()) == make((5, 4))
        assert text


def test_a_net_of_one_channel_takes_gray_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deploy.prototxt").write_text(NET.replace("dim: 3 dim: 8", "dim: 1 dim: 8"))
    model = tmp_path / "net.caffemodel"
    Net(tmp_path / "deploy.prototxt").save(model)
    assert run(model, "--preprocessing", "digits", "--mean", "33", "--for", "opencv5") == 0
    assert (written(model).channel_order, written(model).mean) == ("gray", (33,))
    out = capsys.readouterr().out
    assert "cv2.IMREAD_GRAYSCALE" in out
    assert "mean=(33,)" in out
    assert run(model, "--preprocessing", "vgg", "--force") == 1
    assert "the net takes images of one channel; give their mean" in capsys.readouterr().err
    assert run(model, "--preprocessing", "vgg", "--mean", "110", "--force") == 0
    assert written(model).channel_order == "gray"


def test_a_training_net_of_one_channel_takes_gray_images(tmp_path: Path) -> None:
    """Its data layer does not say so; the weights of the first convolution do."""
    (tmp_path / "deploy.prototxt").write_text(NET.replace("dim: 3 dim: 8", "dim: 1 dim: 8"))
    model = tmp_path / "net.caffemodel"
    Net(tmp_path / "deploy.prototxt").save(model)
    (tmp_path / "deploy.prototxt").unlink()
    data = TRAIN_VAL.replace("ImageData", "Data").replace("TRANSFORM", "scale: 0.5")
    data = data.replace("image_data_param", "data_param").replace(
        "new_height: 10 new_width: 12", ""
    )
    (tmp_path / "train_val.prototxt").write_text(data + BODY)
    assert run(model) == 0
    assert written(model) == Preprocessing("gray", (0,), 0.5)


def test_an_onnx_file_is_no_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x09\x12\x04test\x3a\x00")
    assert run(tmp_path / "net.onnx") == 1
    assert "this is an ONNX model, which is written and verified here, but not read" in (
        capsys.readouterr().err
    )
