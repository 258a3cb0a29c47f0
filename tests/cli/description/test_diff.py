"""``caffecompat diff``: exit 0 for equal, 1 for different, and what is printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.weights import LayerWeights, Weights, save_weights
from tests.places import COPIES

NET = """
name: "one"
layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: 1 }
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "Softmax" bottom: "y" top: "z" include { phase: TEST } }
"""


def diff(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["diff", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def nets(folder: Path, other: str) -> list[Path]:
    paths = [folder / "one.prototxt", folder / "other.prototxt"]
    for path, text in zip(paths, (NET, other), strict=True):
        path.write_text(text)
    return paths


def test_equal_nets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another name, explicit defaults and the old form of the input change nothing."""
    other = NET.replace('"one"', '"two"').replace("lr_mult: 1", "lr_mult: 1.0 decay_mult: 1")
    code, out = diff(capsys, *nets(tmp_path, other))
    assert (code, out) == (0, "equal: 3 layers, field by field\n")


def test_different_nets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = (
        NET.replace("num_output: 4", "num_output: 5 axis: -1")
        .replace("xavier", "msra")
        .replace('"loss"', '"prob"')
        .replace("param { lr_mult: 1 }", "param { lr_mult: 2 } param { lr_mult: 0 }")
    )
    code, out = diff(capsys, *nets(tmp_path, other))
    assert code == 1
    for line in (
        "layer 'loss' (Softmax) is in the first only",
        "layer 'prob' (Softmax) is in the second only",
        "layer 'fc' (InnerProduct): inner_product_param.num_output is 4 in the first, 5 in the",
        "inner_product_param.axis is 1 in the first, -1 in the second",
        "inner_product_param.weight_filler.type is 'xavier' in the first, 'msra' in the second",
        "param is given 1 times in the first, 2 in the second",
        "param[0].lr_mult is 1 in the first, 2 in the second",
    ):
        assert line in out
    assert out.endswith("7 differences\n")


def test_another_order_and_net_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, first, second, third = NET.strip().replace("layer {", "\0layer {").split("\0")
    code, out = diff(capsys, *nets(tmp_path, f"force_backward: true {third}{first}{second}"))
    assert code == 1
    assert "the layers that both have are in another order" in out
    assert "net: force_backward is false in the first, true in the second" in out
    assert head


def weights(path: Path, scale: float = 1) -> Path:
    layers = [
        LayerWeights("fc", "InnerProduct", [np.full((2, 3), scale, np.float32), np.zeros(2)]),
        LayerWeights("relu", "ReLU"),
    ]
    save_weights(Weights(layers), path)
    return path


def test_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, same = weights(tmp_path / "one.caffemodel"), weights(tmp_path / "one.h5")
    assert diff(capsys, one, same)[0] == 0
    other = weights(tmp_path / "other.caffemodel", 1.25)
    code, out = diff(capsys, one, other)
    assert code == 1
    assert "fc        0  2x3       0.25       0.2" in out
    assert "1 of 2 blobs differ in their values, 1 are equal" in out
    assert diff(capsys, one, other, "--tolerance", "0.25")[0] == 0


def test_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = weights(tmp_path / "one.caffemodel")
    net = nets(tmp_path, NET)[0]
    code, out = diff(capsys, model, net)
    assert code == 1
    assert f"{net}: this is a definition, but {model} holds weights" in out
    assert "caffecompat inspect" in out
    mean = COPIES / "files" / "mean" / "legacy.binaryproto"
    assert "this is a mean; give two weight files" in diff(capsys, mean, mean)[1]
    assert "there is no such file" in diff(capsys, model, tmp_path / "none")[1]


def test_numbers_are_shown_as_they_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fillers = ['type: "gaussian" std: 0.01', 'type: "gaussian" std: 0.0123456789']
    one, other = tmp_path / "a.prototxt", tmp_path / "b.prototxt"
    for path, filler in zip((one, other), fillers, strict=True):
        path.write_text(NET.replace('type: "xavier"', filler))
    code, out = diff(capsys, one, other)
    assert code == 1
    assert "weight_filler.std is 0.01 in the first, 0.0123456791 in the second" in out


SOLVER = """
base_lr: 0.1
lr_policy: "fixed"
max_iter: 10
net_param {
  layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
}
"""


def test_two_solvers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "one.prototxt", tmp_path / "other.prototxt"
    one.write_text(SOLVER)
    other.write_text(SOLVER.replace("base_lr", "momentum: 0 base_lr"))
    assert diff(capsys, one, other) == (0, "equal, field by field\n")
    other.write_text(SOLVER.replace("0.1", "0.2 solver_type: ADAM").replace("dim: 3", "dim: 4"))
    code, out = diff(capsys, one, other)
    assert code == 1
    assert "base_lr is 0.1 in the first, 0.2 in the second" in out
    assert "type is 'SGD' in the first, 'Adam' in the second" in out
    assert "input_param.shape[0].dim is [2, 3] in the first, [2, 4] in the second" in out
    other.write_text(NET)
    code, out = diff(capsys, one, other)
    assert code == 1
    assert "this looks like a net (layer), a solver was expected" in out
