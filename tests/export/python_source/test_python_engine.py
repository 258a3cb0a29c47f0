"""``caffecompat verify`` with Python source: it runs only where that is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffecompat
from caffecompat.cli.main import main
from caffecompat.export.targets.python_source import PythonSource
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.proto.files import write_text
from tests.export.models import model_of
from tests.export.python_source.source_net import NET

RAN = "open({!r}, 'w').close()\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """net.prototxt, net.caffemodel and the source net.py of one model."""
    text = NET.replace('name: "small"', 'name: "small"\n').replace('"data"', '"data in"')
    model = model_of(text)
    write_text(model.definition.message, tmp_path / "net.prototxt")
    caffecompat.save_weights(model.weights, tmp_path / "net.caffemodel")
    PythonSource().write(model, tmp_path / "net.py")
    return tmp_path


def verify(folder: Path, *arguments: str) -> int:
    return main(["verify", *(str(folder / a) if "." in a else a for a in arguments)])


def change(source: Path, old: str, new: str) -> None:
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


@pytest.mark.parametrize("pair", [("net.prototxt", "net.py"), ("net.py", "net.caffemodel")])
def test_source_is_compared_with_the_same_weights(
    pair: tuple[str, str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(files, *pair, "--allow-python") == 0
    assert "agree" in capsys.readouterr().out


def test_a_changed_line_is_found(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(files / "net.py", "ceil_mode=True", "ceil_mode=False")
    change(files / "net.py", "pool.flatten(1)", "F.pad(pool, (0, 1, 0, 1)).flatten(1)[:, :48]")
    assert verify(files, "net.prototxt", "net.py", "--allow-python") == 1
    assert "DIFFER" in capsys.readouterr().out


def test_nothing_runs_without_the_flag(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = files / "ran"
    with (files / "net.py").open("a") as file:
        file.write(RAN.format(str(ran)))
    assert verify(files, "net.caffemodel", "net.py") == 1
    assert "--allow-python" in capsys.readouterr().err
    assert verify(files, "net.caffemodel", "net.py", "--trust") == 1
    assert not ran.exists()
    assert verify(files, "net.caffemodel", "net.py", "--allow-python") == 0
    assert ran.exists()


def test_weights_beside_the_source_count_where_the_other_has_none(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    arguments = [str(files / "net.caffemodel"), str(files / "net.onnx")]
    assert main(["convert", *arguments]) == 0
    capsys.readouterr()
    assert verify(files, "net.onnx", "net.py", "--allow-python") == 1
    assert "has no weights; put its state dict beside it as net.safetensors" in (
        capsys.readouterr().err
    )
    weights = caffecompat.load_weights(files / "net.caffemodel")
    caffecompat.save_weights(weights, files / "net.pt", naming=torch_naming())
    assert verify(files, "net.onnx", "net.py", "--allow-python") == 0


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("class Net(", "is no Python source"),
        ("x = 1\n", r"has no class Net(nn.Module)"),
        ("raise SystemExit(3)", "fails when it is run: 3"),
        ("1 / 0", "fails when it is run: division by zero"),
        (
            "from torch import nn\nclass Net(nn.Module):\n def __init__(self, n): pass\n",
            "its Net cannot be made",
        ),
        ("from torch import nn\nclass Net(nn.Module): pass\n", "the weights do not fit its net"),
        ("\0", "is no Python source"),
        ("(" * 5000, "is no Python source"),
    ],
)
def test_other_programs_get_a_sentence(
    source: str, sentence: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "net.py").write_text(source)
    assert verify(files, "net.prototxt", "net.py", "--allow-python") == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_a_net_that_fails_or_takes_other_inputs_gets_a_sentence(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (files / "net.py").read_text()
    change(files / "net.py", "def forward(self, data_in):", "def forward(self, data_in, other):")
    assert verify(files, "net.prototxt", "net.py", "--allow-python") == 1
    assert "does not take the inputs 'data in'" in capsys.readouterr().err
    (files / "net.py").write_text(text.replace("prob = fc.softmax(1)", "prob = fc.softmax(7)"))
    assert verify(files, "net.prototxt", "net.py", "--allow-python") == 1
    assert "its net fails" in capsys.readouterr().err


def test_source_needs_something_to_be_compared_with(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(files, "net.py", "net.py", "--allow-python") == 1
    assert "does not tell the sizes of its inputs" in capsys.readouterr().err


def test_a_prototxt_alone_has_no_weights(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(files, "net.prototxt", "net.caffemodel") == 1
    assert "has no weights; give a weight file" in capsys.readouterr().err


def test_conversion_checks_the_source_that_it_wrote(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = files / "written.py"
    assert main(["convert", str(files / "net.caffemodel"), str(target)]) == 0
    assert f"verified: {target} computes what the net does" in capsys.readouterr().out


def test_random_weights_depend_on_names_alone(files: Path) -> None:
    from caffecompat.export.random_weights import random_weights

    net = caffecompat.Net(str(files / "net.prototxt"))
    one, same = random_weights(net), random_weights(net)
    for layer in one.layers:
        for blob, other in zip(layer.blobs, same[layer.name].blobs, strict=True):
            np.testing.assert_array_equal(blob, other)
            assert np.ptp(blob) > 0


def test_source_of_a_part_of_the_other_net(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
layer { name: "in" type: "Input" top: "info" top: "data 1" input_param {
  shape { dim: 1 dim: 3 } shape { dim: 1 dim: 2 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data 1" top: "conv"
  convolution_param { num_output: 3 kernel_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 3 } }
layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "info" top: "sum" }
"""
    model = model_of(text)
    write_text(model.definition.message, tmp_path / "net.prototxt")
    caffecompat.save_weights(model.weights, tmp_path / "net.caffemodel")
    files = [str(tmp_path / "net.caffemodel"), str(tmp_path / "part.py")]
    assert main(["convert", *files, "--output", "conv"]) == 0
    assert "def forward(self, data_1):" in (tmp_path / "part.py").read_text()
    capsys.readouterr()
    assert verify(tmp_path, "net.caffemodel", "part.py", "--allow-python") == 0
    assert "agree" in capsys.readouterr().out
    change(tmp_path / "part.py", "return", "conv = conv + 1\n        return")
    assert verify(tmp_path, "net.caffemodel", "part.py", "--allow-python") == 1
