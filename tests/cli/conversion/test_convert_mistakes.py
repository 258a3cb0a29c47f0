"""``caffecompat convert``: what a user tries without having read the manual."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.proto.files import read_net, write_binary
from caffecompat.weights import load_weights, save_weights, write_mean

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 7 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``deploy.prototxt`` and ``small.caffemodel``."""
    (tmp_path / "deploy.prototxt").write_text(NET)
    Net(tmp_path / "deploy.prototxt", seed=5).save(tmp_path / "small.caffemodel")
    return tmp_path


@pytest.fixture
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a caffemodel that has its layers' settings, as Caffe writes them."""
    message, _ = read_net(folder / "deploy.prototxt")
    for layer in load_weights(folder / "small.caffemodel").layers:
        target = next(one for one in message.layer if one.name == layer.name)
        for blob in layer.blobs:
            stored = target.blobs.add()
            stored.shape.dim.extend(blob.shape)
            stored.data.extend(map(float, blob.ravel()))
    place = tmp_path_factory.mktemp("alone")
    write_binary(message, place / "net.caffemodel")
    return place


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".caffemodel"])
def test_a_definition_that_no_prototxt_has_lies_beside(
    suffix: str, alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the shown line loads the file."""
    monkeypatch.chdir(alone)
    assert run("net.caffemodel", f"new{suffix}") == 0
    assert "wrote new.prototxt: the definition" in capsys.readouterr().out
    net = Net("new.prototxt", weights=f"new{suffix}")
    assert net.outputs == ["prob"]


def test_a_prototxt_beside_is_kept(alone: Path) -> None:
    (alone / "new.prototxt").write_text("name: 'mine'")
    assert run(alone / "net.caffemodel", alone / "new.npz") == 0
    assert (alone / "new.prototxt").read_text() == "name: 'mine'"


def test_the_definition_alone(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(alone / "net.caffemodel", alone / "net.prototxt") == 0
    assert "verified" not in capsys.readouterr().out
    names = [layer.name for layer in read_net(alone / "net.prototxt")[0].layer]
    assert names == ["data", "conv1", "fc", "prob"]
    assert "blobs" not in (alone / "net.prototxt").read_text()


def test_weights_without_a_definition_have_no_prototxt(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path_factory.mktemp("away") / "w.npz"
    save_weights(load_weights(folder / "small.caffemodel"), target)
    assert run(target, target.with_suffix(".prototxt")) == 1
    assert "give it with --model deploy.prototxt" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["torch-program", "safetensors", "python", "npz"])
def test_a_form_that_cannot_fold_the_preprocessing(
    form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    flags = ("--to", form, "--preprocessing", "vgg", "--fold-preprocessing")
    assert run(folder / "small.caffemodel", *flags) == 1
    assert f"the form {form!r} has no place for it; write onnx" in capsys.readouterr().err
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("mean", ["1,2", "1,2,3,4"])
def test_means_of_other_channels(
    mean: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder / "small.caffemodel"
    assert run(source, folder / "x.npz", "--preprocessing", "vgg", "--mean", mean) == 1
    count = len(mean.split(","))
    assert f"has {count} values, and the net takes images of 3 channels" in capsys.readouterr().err
    assert run(source, folder / "x.npz", "--preprocessing", "vgg", "--mean", "7") == 0
    found = json.loads((folder / "x.npz.preprocessing.json").read_text())
    assert found["mean"] == [7]


@pytest.mark.parametrize(("count", "noted"), [(5, False), (2, True), (6, True)])
def test_another_number_of_labels(
    count: int, noted: bool, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = folder / "labels.txt"
    labels.write_text("".join(f"class {index}\n" for index in range(count)))
    source = folder / "small.caffemodel"
    assert run(source, folder / "x.npz", "--preprocessing", "vgg", "--labels", labels) == 0
    note = f"{labels}: has {count} labels, one per line, but the output 'prob' is 2x5"
    assert (note in capsys.readouterr().out) == noted


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        ("x.tflite", "write .onnx, of which onnx2tf makes such a file"),
        ("x.mlpackage", "write .pt2, of which coremltools makes such a file"),
        ("x.XML", "write .onnx, of which OpenVINO's ovc makes such a file"),
        ("x.what", "--to names one"),
    ],
)
def test_other_programs_files(
    target: str, advice: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder / "small.caffemodel", folder / target) == 1
    assert advice in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "advice"), [("tflite", "write .onnx"), ("CoreML", "write .pt2"), ("onx", "'onnx'")]
)
def test_other_programs_forms(
    target: str, advice: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder / "small.caffemodel", "--to", target) == 2
    assert advice in capsys.readouterr().err


def test_python_source_says_where_its_weights_are_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert run("small.caffemodel", "net.py") == 0
    line = "# its weights, with the same flags: caffecompat "
    shown = [row for row in capsys.readouterr().out.splitlines() if row.startswith(line)]
    assert main(shown[0].removeprefix(line).split()) == 0
    assert (folder / "net.safetensors").exists()


def test_the_program_that_is_meant_runs_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    cv2 = pytest.importorskip("cv2")
    target = folder / "x.onnx"
    assert run(folder / "small.caffemodel", target, "--for", "opencv5") == 0
    out = capsys.readouterr().out
    assert f"verified: {target} computes what the net does" in out
    if cv2.__version__.startswith("5."):
        assert f"opencv5: verified: {target} computes what the net does" in out
    else:
        assert f"opencv5: not verified: {target}: OpenCV {cv2.__version__}" in out


def test_probabilities_that_say_little(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a softmax over hundreds nothing but its largest place is left; all values count then."""
    pytest.importorskip("onnxruntime")
    weights = load_weights(folder / "small.caffemodel")
    weights["fc"].blobs = [blob * np.float32(1e4) for blob in weights["fc"].blobs]
    save_weights(weights, folder / "large.caffemodel")
    model = ("--model", folder / "deploy.prototxt")
    assert run(folder / "large.caffemodel", folder / "x.onnx", *model) == 0
    out = capsys.readouterr().out
    assert "fc: 2x5, largest difference" in out
    weights["fc"].blobs = [blob * np.float32(1e-8) for blob in weights["fc"].blobs]
    save_weights(weights, folder / "even.caffemodel")
    assert run(folder / "even.caffemodel", folder / "y.onnx", *model) == 0
    assert "fc: 2x5" not in capsys.readouterr().out
    monkeypatch.setattr("caffecompat.export.verify.verification.MOST_BYTES", 100)
    assert run(folder / "large.caffemodel", folder / "z.onnx", *model) == 0
    assert "fc: 2x5" not in capsys.readouterr().out


def test_files_that_are_no_model_say_where_they_belong(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mean(np.ones((3, 5, 4), np.float32), folder / "mean.binaryproto")
    assert run(folder / "mean.binaryproto") == 1
    assert "which commands take with --mean" in capsys.readouterr().err
    (folder / "x.onnx").write_bytes(b"\x08\x08\x12\x07pytorch:\x00")
    assert run(folder / "x.onnx", folder / "x.caffemodel") == 1
    assert "becomes a Caffe model by caffecompat.export.from_torch" in capsys.readouterr().err
