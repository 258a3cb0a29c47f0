"""``--output``: a net cut down to what some blobs need, and the messages that name it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import caffecompat
from caffecompat.cli.main import main
from caffecompat.errors import ExportError
from caffecompat.export.outputs import keep_outputs
from caffecompat.proto.files import write_text
from tests.export.models import expected_outputs, model_of, random_inputs

# A detection net in small: one branch ends in a type that no target has.
NET = """name: "net"
input: "data" input_shape { dim: 2 dim: 3 dim: 6 dim: 5 }
input: "facts" input_shape { dim: 2 dim: 3 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "shuffled" type: "BatchReindex" bottom: "loc" bottom: "order" top: "shuffled" }
layer { name: "flat" type: "Filter" bottom: "score" bottom: "chosen" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "facts" top: "fc"
  inner_product_param { num_output: 2 } }
"""
ORDER = """input: "order" input_shape { dim: 2 }
input: "chosen" input_shape { dim: 2 }
"""
TEXT = NET.replace("layer {", ORDER + "layer {", 1)


def test_only_what_the_blobs_need_is_kept() -> None:
    model = model_of(TEXT)
    kept = keep_outputs(model, ["loc", "score"])
    assert [layer.name for layer in kept.definition.message.layer][1:] == [
        "conv",
        "relu",
        "loc",
        "score",
    ]
    net = kept.net()
    assert (net.inputs, net.outputs) == (["data"], ["loc", "score"])
    assert sorted(name for name in kept.weights if kept.weights[name].blobs) == [
        "conv",
        "loc",
        "score",
    ]
    inputs = random_inputs(net)
    full = model.net()
    others = {"facts": np.zeros((2, 3)), "order": np.zeros(2), "chosen": np.ones(2)}
    full.forward(**inputs, **{name: np.float32(value) for name, value in others.items()})
    for name, value in expected_outputs(net, inputs).items():
        np.testing.assert_array_equal(value, full.blobs[name].data.numpy())


def test_a_blob_that_is_read_becomes_an_output_too() -> None:
    model = model_of(TEXT)
    net = keep_outputs(model, ["loc", "conv"]).net()
    assert sorted(net.outputs) == ["conv", "loc"]
    inputs = random_inputs(net)
    found = expected_outputs(net, inputs)
    assert found["conv"].min() == 0  # after the ReLU in place
    np.testing.assert_array_equal(
        found["conv"], expected_outputs(keep_outputs(model, ["conv"]).net(), inputs)["conv"]
    )
    np.testing.assert_array_equal(
        found["loc"], expected_outputs(keep_outputs(model, ["loc"]).net(), inputs)["loc"]
    )


def test_an_unknown_blob_is_named() -> None:
    with pytest.raises(ExportError, match=r"net.caffemodel: no blob 'locs'; did you mean 'loc'\?"):
        keep_outputs(model_of(TEXT), ["loc", "locs"])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    model = model_of(TEXT)
    write_text(model.definition.message, tmp_path / "net.prototxt")
    caffecompat.save_weights(model.weights, tmp_path / "net.caffemodel")
    return tmp_path


@pytest.mark.parametrize("form", ["onnx", "py"])
def test_the_flags_of_the_message_work(
    form: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if form == "onnx":
        pytest.importorskip("onnx")
    source, target = str(files / "net.caffemodel"), files / f"net.{form}"
    assert main(["convert", source, str(target)]) == 1
    message = capsys.readouterr().err
    assert "'flat' (Filter" in message
    assert not target.exists()
    found = re.search(r"converted with ((?:--output \S+ ?)+)", message.replace(";", " "))
    assert found is not None
    flags = shlex.split(found.group(1))
    assert "score" in flags
    assert main(["convert", source, str(target), *flags]) == 0
    assert "kept" in capsys.readouterr().out
    assert target.exists()


def test_weights_come_with_the_definition_of_what_is_kept(files: Path) -> None:
    target = files / "cut.caffemodel"
    arguments = [str(files / "net.caffemodel"), str(target), "--output", "score"]
    assert main(["convert", *arguments, "--model", str(files / "net.prototxt")]) == 0
    net = caffecompat.Net(str(files / "cut.prototxt"), weights=str(target))
    assert net.outputs == ["score"]
    found = caffecompat.load_weights(target)
    assert [layer.name for layer in found.values() if layer.blobs] == ["conv", "score"]


def test_no_blob_no_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = files / "cut.caffemodel"
    arguments = [str(files / "net.caffemodel"), str(target), "--output", "nothing"]
    assert main(["convert", *arguments]) == 1
    assert "no blob 'nothing'" in capsys.readouterr().err
    assert not target.exists()


def test_a_part_of_the_net_agrees_with_the_whole(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    source, target = str(files / "net.caffemodel"), str(files / "part.onnx")
    assert main(["convert", source, target, "--output", "conv"]) == 0
    capsys.readouterr()
    assert main(["verify", source, target]) == 0
    assert "1 value within" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["onnx", "pt2", "py", "mat"])
def test_layers_with_python_code_are_named_at_once(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 1 dim: 3 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 2 } }
layer { name: "mine" type: "Python" bottom: "conv" top: "mine"
  python_param { module: "my_layers" layer: "Mine" } }
layer { name: "next" type: "ReLU" bottom: "mine" top: "next" }
layer { name: "last" type: "Python" bottom: "next" top: "last"
  python_param { module: "others" layer: "Last" } }
"""
    (tmp_path / "net.prototxt").write_text(text)
    part = model_of(text[: text.index('layer { name: "mine"')])
    caffecompat.save_weights(part.weights, tmp_path / "net.caffemodel")
    if form == "onnx":
        pytest.importorskip("onnx")
    if form == "mat":
        pytest.importorskip("scipy")
    (tmp_path / "my_layers.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    arguments = ["convert", str(tmp_path / "net.caffemodel"), str(tmp_path / f"net.{form}")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "'mine' (module 'my_layers'), 'last' (module 'others')" in error
    assert error.endswith("; without them the net is converted with --output conv\n")
    assert main([*arguments, "--no-verify", "--output", "conv"]) == 0
    assert not (tmp_path / "ran").exists()


SILENT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 4 } }
layer { name: "quiet" type: "Silence" bottom: "fc" bottom: "data" }
"""


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".py"])
def test_a_net_without_outputs(
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its file could not be loaded; it is refused, and the flag that the message names works."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(SILENT)
    caffecompat.Net("net.prototxt", phase="TEST").save("net.caffemodel")
    command = ["convert", "--model", "net.prototxt", "net.caffemodel", f"net{suffix}"]
    assert main(command) == 1
    said = capsys.readouterr().err
    advice = "the net has no output, which this form needs; name a blob as its output: --output fc"
    assert f"net.caffemodel: {advice}\n" in said
    assert not Path(f"net{suffix}").exists()
    assert main([*command, *shlex.split(advice[advice.index("--output") :])]) == 0
    assert Path(f"net{suffix}").exists()
