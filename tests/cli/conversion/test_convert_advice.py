"""``caffecompat convert``: what it says to those who try something else than its examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.export.verify.verification import compare
from caffecompat.weights import load_weights

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 } }
"""
Captured = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Weights with their definition beside them, in a folder with a space in its name."""
    folder = tmp_path / "my nets"
    folder.mkdir()
    (folder / "deploy net.prototxt").write_text(NET)
    Net(folder / "deploy net.prototxt", seed=5).save(folder / "net.caffemodel")
    return folder / "net.caffemodel"


def test_a_folder_gets_a_file_of_the_same_name(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run(source, tmp_path / "out") == 0
    assert run(source, tmp_path / "out", "--to", "npz") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["net.npz", "net.safetensors"]


def test_a_folder_that_is_missing_is_named(source: Path, tmp_path: Path, capsys: Captured) -> None:
    assert run(source, tmp_path / "out") == 1
    assert "there is no folder of that name; end it in one of" in capsys.readouterr().err


def test_forms_are_known_by_their_suffixes_too(source: Path) -> None:
    assert run(source, "--to", "pt") == 0
    assert "conv1" in load_weights(source.with_suffix(".pt"))


def test_forms_of_other_programs_are_made_from_onnx(source: Path, capsys: Captured) -> None:
    assert run(source, source.with_suffix(".tflite")) == 1
    assert "write .onnx, of which onnx2tf makes such a file" in capsys.readouterr().err


def test_the_shown_lines_name_the_files(source: Path, capsys: Captured) -> None:
    assert run(source, source.with_name("copy.caffemodel")) == 0
    folder = source.parent
    out = capsys.readouterr().out
    shown = f"-model '{folder}/deploy net.prototxt' -weights '{folder}/copy.caffemodel'"
    assert shown in out


def test_a_checkpoint_is_told_from_a_state_dict(source: Path, capsys: Captured) -> None:
    path = source.with_suffix(".pt")
    torch.save({"epoch": 3, "model": {"conv1.weight": torch.zeros(4, 3, 3, 3)}}, path)
    assert run(path, source.with_name("x.npz")) == 1
    error = capsys.readouterr().err
    assert f"torch.save(torch.load('{path}')['model'], ...)" in error


def test_torchvisions_names_are_recognised(source: Path, capsys: Captured) -> None:
    path = source.with_suffix(".pt")
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, path)
    model = source.with_name("deploy net.prototxt")
    assert run(path, source.with_name("x.npz"), "--model", model) == 1
    assert "--layout torchvision finds the layers" in capsys.readouterr().err
    model.unlink()
    assert run(path, source.with_name("x.caffemodel")) == 0
    assert "add --model NET.prototxt --layout torchvision" in capsys.readouterr().out


def test_weights_of_another_net_get_no_advice_that_convert_has_no_flag_for(
    source: Path, capsys: Captured
) -> None:
    other = source.with_name("other.prototxt")
    other.write_text(NET.replace("num_output: 4", "num_output: 5"))
    target = source.with_name("x.npz")
    assert run(source, target, "--model", other) == 1
    error = capsys.readouterr().err
    assert "weight (blob 0) is 4x3x3x3 in the file, the net needs 5x3x3x3" in error
    assert f"weights of another net than {other}; --model names their definition" in error
    assert "--on-mismatch" not in error
    other.write_text(NET.replace("conv1", "first"))
    assert run(source, target, "--model", other) == 1
    error = capsys.readouterr().err
    assert "has other layers than" in error
    assert "--lenient" not in error


def test_a_graph_that_prepares_its_images_says_what_it_takes(
    source: Path, capsys: Captured
) -> None:
    pytest.importorskip("onnx")
    flags = ("--preprocessing", "vgg", "--fold-preprocessing", "--no-verify")
    assert run(source, source.with_suffix(".onnx"), *flags) == 0
    assert "it takes R, G, B from 0 to 1" in capsys.readouterr().out


def test_values_in_shapes_that_differ_by_axes_of_1_are_compared() -> None:
    values = np.arange(6, dtype=np.float32)
    found = compare({"a": values.reshape(2, 3)}, {"a": values.reshape(2, 3, 1, 1)})
    assert found.agrees
    assert found.worst.note == "2x3 and 2x3x1x1"
    assert not compare({"a": values.reshape(2, 3)}, {"a": values.reshape(3, 2)}).agrees
