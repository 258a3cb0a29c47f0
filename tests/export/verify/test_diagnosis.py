"""Faults of conversions, planted and found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.onnx import Onnx
from caffecompat.weights import save_weights
from tests.export.models import model_of

TEXT = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 1 dim: 3 dim: 14 dim: 13 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "norm" type: "BatchNorm" bottom: "conv2" top: "conv2" }
layer { name: "pool" type: "Pooling" bottom: "conv2" top: "pool"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "out" type: "Convolution" bottom: "pool" top: "out"
  convolution_param { num_output: 5 kernel_size: 1 } }
layer { name: "all" type: "Pooling" bottom: "out" top: "all"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 6 } }
"""
# Without the layer whose number of inputs depends on the rounding.
POOLED = TEXT[: TEXT.index('layer { name: "fc"')]

Change = Callable[[CaffeModel], None]


def opposite_colours(model: CaffeModel) -> None:
    weight = model.weights["conv1"].blobs[0]
    model.weights["conv1"].blobs[0] = np.ascontiguousarray(weight[:, ::-1])


def transposed(model: CaffeModel) -> None:
    weight = model.weights["conv2"].blobs[0]
    model.weights["conv2"].blobs[0] = np.ascontiguousarray(weight.swapaxes(2, 3))


def flipped(model: CaffeModel) -> None:
    weight = model.weights["conv2"].blobs[0]
    model.weights["conv2"].blobs[0] = np.ascontiguousarray(weight[:, :, ::-1, ::-1])


def unscaled(model: CaffeModel) -> None:
    model.weights["norm"].blobs[2] = np.ones(1, np.float32)


def no_bias(model: CaffeModel) -> None:
    model.weights["conv2"].blobs[1] = np.zeros(4, np.float32)


def other_order(model: CaffeModel) -> None:
    weight = model.weights["fc"].blobs[0]
    height, width = 6, 5
    moved = weight.reshape(6, height, width, 4).transpose(0, 3, 1, 2).reshape(6, -1)
    model.weights["fc"].blobs[0] = np.ascontiguousarray(moved)


def nothing(model: CaffeModel) -> None:
    pass


def random_weight(model: CaffeModel) -> None:
    weight = model.weights["conv2"].blobs[0]
    model.weights["conv2"].blobs[0] = weight + np.arange(weight.size).reshape(weight.shape) % 7


FAULTS: list[tuple[Change, tuple[str, str], str, str]] = [
    (opposite_colours, ("", ""), "conv1 before relu1", "opposite order (RGB and BGR)"),
    (transposed, ("", ""), "conv2 before norm", "height and width of the filters"),
    (flipped, ("", ""), "conv2 before norm", "Caffe correlates"),
    (unscaled, ("", ""), "conv2", "the scale factor (3)"),
    (no_bias, ("", ""), "conv2 before norm", "the bias of layer 'conv2' (Convolution) is missing"),
    (other_order, ("", ""), "fc", "Caffe's is channels, height, width"),
    (nothing, ("stride: 2", "stride: 2 round_mode: FLOOR"), "pool", "ceil mode is missing"),
    (random_weight, ("", ""), "conv2 before norm", "no known fault gives these values; look at"),
]


def planted(fault: Change, text: str, folder: Path) -> list[str]:
    """Writes a good model and the ONNX file of one with a fault; the arguments of verify."""
    pytest.importorskip("onnxruntime")
    good, bad = model_of(TEXT if "fc" in text else POOLED), model_of(text)
    for model in (good, bad):
        # Small values after conv1 with a bias that shows; a factor as in trained models.
        model.weights["norm"].blobs[2] = np.full(1, 3, np.float32)
        model.weights["conv2"].blobs[1] = np.linspace(20, 60, 4, dtype=np.float32)
    fault(bad)
    (folder / "net.prototxt").write_text(TEXT if "fc" in text else POOLED)
    save_weights(good.weights, folder / "net.caffemodel")
    Onnx().write(bad, folder / "net.onnx")
    model_option = ["--model", str(folder / "net.prototxt")]
    return ["verify", str(folder / "net.caffemodel"), str(folder / "net.onnx"), *model_option]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f[0].__name__)
def test_a_planted_fault_is_named(
    fault: tuple[Change, tuple[str, str], str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change, replacement, value, sentence = fault
    text = (POOLED if replacement[0] else TEXT).replace(*replacement) if replacement[0] else TEXT
    command = planted(change, text, tmp_path)
    assert main([*command, "--layers"]) == 1
    out = capsys.readouterr().out
    assert f"first difference: {value!r}" in out
    assert sentence in out


def test_a_mean_that_is_not_subtracted_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A bias that adds what the mean would have subtracted, without padding, is the same fault.
    text = TEXT.replace("kernel_size: 3 pad: 1", "kernel_size: 5")
    text = text[: text.index('layer { name: "fc"')]
    pytest.importorskip("onnxruntime")
    good, bad = model_of(text), model_of(text)
    mean = np.array([99, 110, 121], np.float32)
    weight, bias = bad.weights["conv1"].blobs
    bad.weights["conv1"].blobs[1] = bias + (weight * mean.reshape(1, 3, 1, 1)).sum((1, 2, 3))
    (tmp_path / "net.prototxt").write_text(text)
    save_weights(good.weights, tmp_path / "net.caffemodel")
    Onnx().write(bad, tmp_path / "net.onnx")
    command = ["verify", str(tmp_path / "net.caffemodel"), str(tmp_path / "net.onnx")]
    assert main([*command, "--model", str(tmp_path / "net.prototxt"), "--layers"]) == 1
    out = capsys.readouterr().out
    assert "the mean (99, 110, 121) of input 'data' is not subtracted" in out


def test_agreement_prints_a_table_and_writes_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    command = planted(nothing, TEXT, tmp_path)
    picture = tmp_path / "layers.png"
    assert main([*command, "--layers", "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "agree: " in out
    assert "conv2 before norm" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_verdict_without_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = planted(no_bias, TEXT, tmp_path)
    assert main(command) == 1
    assert "DIFFER: " in capsys.readouterr().out
    assert main([*command, "--rtol", "1e9"]) == 0


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "one.onnx"]) == 2
    assert "two model files" in capsys.readouterr().err
    assert main(["verify", "one.onnx", "two.onnx", "--recorded", "case.prototxt"]) == 2
