"""Weight parity: caffemodel -> torch -> caffemodel is bit-exact and outputs stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from caffecompat import Net, load_weights, read_net, save_weights
from caffecompat.cli.main import main
from tests.parity_report import OUTPUTS, WEIGHTS, Record, note

PROTOTXT = Path(__file__).resolve().parents[2] / "prototxt"

pytestmark = pytest.mark.parity


def deploy_nets() -> list[Path]:
    return sorted(PROTOTXT.glob("*deploy*.prototxt"))


def narrowed(path: Path, factor: int, side: int) -> Any:
    """The net with 1/factor of its widths, for an image of side x side."""
    message = read_net(path)
    for layer in message.layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[0] = 2
            layer.input_param.shape[0].dim[2:] = [side, side]
        elif layer.type == "Convolution":
            layer.convolution_param.num_output //= factor
            fill_strongly(layer.convolution_param)
        elif layer.type == "InnerProduct":
            outputs = layer.inner_product_param.num_output
            layer.inner_product_param.num_output = max(5, outputs // factor)
            fill_strongly(layer.inner_product_param)
    return message


def fill_strongly(parameters: Any) -> None:
    """Gaussian std 0.01 would leave nothing to compare at the end of a narrow, deep net."""
    parameters.weight_filler.type = "msra"
    parameters.bias_filler.type = "uniform"


def image(net: Net, seed: int) -> np.ndarray:
    shape = net.blobs["data"].shape
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check_round_trip(
    message: Any, folder: Path, record: Record, first_format: str = "caffemodel"
) -> None:
    original = Net(message, seed=11)
    before = original.forward(data=image(original, 1))
    first, state, second = (folder / n for n in ("a.caffemodel", "a.pt", "b.caffemodel"))
    save_weights(original.to_weights(), first, format=first_format)
    assert main(["convert", str(first), str(state)]) == 0
    assert main(["convert", str(state), str(second)]) == 0

    through_torch = Net(message, seed=12)
    through_torch.load_state_dict(torch.load(state, weights_only=True))
    back = Net(message, weights=second, seed=13)
    afters = [other.forward(data=image(original, 1)) for other in (through_torch, back)]
    outputs = [(after[blob], value) for after in afters for blob, value in before.items()]
    expected, found = load_weights(first), load_weights(second)
    weights = [
        pair
        for layer in expected.values()
        if layer.blobs
        for pair in zip(layer.blobs, found[layer.name].blobs, strict=True)
    ]
    layers = sum(bool(layer.blobs) for layer in expected.values())
    note(record, message.name, WEIGHTS, layers, weights)
    note(record, message.name, OUTPUTS, layers, outputs)
    for a, b in outputs:
        np.testing.assert_array_equal(a, b)
    for a, b in weights:
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("path", deploy_nets(), ids=lambda p: p.stem)
def test_every_net_of_the_paper_narrowed(
    path: Path, tmp_path: Path, record_property: Record
) -> None:
    check_round_trip(narrowed(path, factor=16, side=64), tmp_path, record_property)


def test_state_dict_serves_a_plain_torch_vgg() -> None:
    """The converted names and layouts are what a torch user expects."""
    message = narrowed(PROTOTXT / "D_deploy.prototxt", factor=16, side=64)
    net = Net(message, seed=4)
    state = net.state_dict()
    modules: list[nn.Module] = []
    for layer in message.layer:
        weight = state.get(f"{layer.name}.weight")
        if layer.type == "Convolution":
            assert weight is not None
            modules.append(nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1))
        elif layer.type == "InnerProduct":
            assert weight is not None
            modules += [nn.Flatten(), nn.Linear(weight.shape[1], weight.shape[0])]
        elif layer.type == "ReLU":
            modules.append(nn.ReLU())
        elif layer.type == "Pooling":
            modules.append(nn.MaxPool2d(2, 2))
        elif layer.type == "Softmax":
            modules.append(nn.Softmax(dim=1))
    plain = nn.Sequential(*modules)
    plain.load_state_dict(dict(zip(plain.state_dict(), state.values(), strict=True)))
    x = image(net, 2)
    with torch.no_grad():
        expected = plain(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(net.forward(data=x)["prob"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_vgg16_at_full_size_in_the_layout_of_the_published_file(
    tmp_path: Path, record_property: Record
) -> None:
    message = read_net(PROTOTXT / "D_deploy.prototxt")
    message.layer[0].input_param.shape[0].dim[0] = 1
    # The published file is of the V1 generation: old layer entries, blobs with four sizes.
    message.name = f"{message.name} at full size"
    check_round_trip(message, tmp_path, record_property, first_format="caffemodel-v1")
    assert (tmp_path / "a.caffemodel").stat().st_size == pytest.approx(553_432_081, abs=1000)


def test_wrong_state_dict_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Net(narrowed(PROTOTXT / "A_deploy.prototxt", factor=32, side=32))
    weights = net.to_weights()
    weights["conv1_1"].blobs[0] = np.zeros((3, 3), np.float32)
    save_weights(weights, tmp_path / "wrong.caffemodel")
    target = tmp_path / "out.pt"
    model = str(PROTOTXT / "A_deploy.prototxt")
    code = main(["convert", str(tmp_path / "wrong.caffemodel"), str(target), "--model", model])
    assert code == 1
    assert "weight (blob 0) is 3x3 in the file" in capsys.readouterr().err
    assert not target.exists()
