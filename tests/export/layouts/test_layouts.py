"""Weights under torchvision's names: the same numbers there, the same bits back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.export.layouts.base import CONVOLUTION, NORM, Operation, layouts
from caffecompat.export.torchvision.match import all_operations, find_architecture
from caffecompat.export.torchvision.net_operations import net_operations
from caffecompat.net.definition import read_definition
from caffecompat.weights import load_weights, save_weights
from tests.export.layouts.torchvision_nets import (
    PAIRS_BY_NAME,
    NetText,
    googlenet_text,
    resnet_text,
)

QUICK = ("vgg11", "vgg16_bn", "alexnet", "squeezenet1_0", "resnet18", "resnet50", "googlenet")


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def random_net(text: str, folder: Path, factor: float = 1.0) -> Net:
    """A net with statistics that are not 0 and 1, written as deploy.prototxt and net.caffemodel."""
    (folder / "deploy.prototxt").write_text(text)
    net = Net(folder / "deploy.prototxt", seed=7)
    random = np.random.default_rng(1)
    for built in net.layers:
        if built.type == "BatchNorm":
            mean, variance, scale = net.params[built.name]
            mean.data[...] = factor * random.normal(size=mean.data.shape) * 0.1
            variance.data[...] = factor * random.uniform(0.5, 2, variance.data.shape)
            scale.data[...] = factor
        elif built.type == "Scale":
            for blob in net.params[built.name]:
                blob.data[...] = random.uniform(0.5, 1.5, blob.data.shape)
    net.save(folder / "net.caffemodel")
    return net


def outputs(net: Net, module: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    shape = net.blobs["data"].shape
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    (ours,) = net.forward(data=x).values()
    with torch.no_grad():
        theirs = module.eval()(torch.from_numpy(x)).numpy()
    return ours.reshape(theirs.shape), theirs


@pytest.mark.parametrize("name", QUICK)
def test_the_module_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    pair = PAIRS_BY_NAME[name]
    net = random_net(pair.text, tmp_path, factor=3.0)
    target = tmp_path / "tv.pt"
    assert run(tmp_path / "net.caffemodel", target, "--layout", "torchvision") == 0
    module = pair.module()
    module.load_state_dict(torch.load(target, weights_only=True))
    ours, theirs = outputs(net, module)
    assert np.ptp(theirs) > 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("name", PAIRS_BY_NAME)
def test_each_architecture_is_recognised(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(PAIRS_BY_NAME[name].text)
    found = find_architecture(net_operations(read_definition(path), str(path)), str(path))
    assert found.architecture.name == name


@pytest.mark.parametrize("name", [*QUICK, "vgg13", "resnet34"])
def test_there_and_back_is_exact(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_net(PAIRS_BY_NAME[name].text, tmp_path)
    target, back = tmp_path / "tv.safetensors", tmp_path / "back.caffemodel"
    assert run(tmp_path / "net.caffemodel", target, "--layout", "torchvision") == 0
    out = capsys.readouterr().out
    assert f"torchvision's {name}, " in out
    # The file says itself in which layout it is, and for which net.
    assert run(target, back) == 0
    original, found = load_weights(tmp_path / "net.caffemodel"), load_weights(back)
    for layer in original.values():
        for one, other in zip(
            layer.blobs, found[layer.name].blobs if layer.blobs else [], strict=True
        ):
            assert one.tobytes() == other.tobytes()
            assert one.shape == other.shape
    assert all(found[n].type == original[n].type for n in found)


def test_a_state_dict_of_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = PAIRS_BY_NAME["resnet18"]
    (tmp_path / "net.prototxt").write_text(pair.text)
    module = pair.module()
    state = {**module.state_dict(), "aux1.fc1.weight": torch.zeros(2)}
    torch.save(state, tmp_path / "tv.pth")
    target = tmp_path / "net.caffemodel"
    flags = ("--layout", "torchvision", "--model", tmp_path / "net.prototxt")
    assert run(tmp_path / "tv.pth", target, *flags) == 0
    out = capsys.readouterr().out
    assert "these are the weights of torchvision's resnet18" in out
    assert "not used: 21 arrays" in out
    assert "std=[0.229, 0.224, 0.225]" in out
    ours, theirs = outputs(Net(tmp_path / "net.prototxt", weights=target), module)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("change", ["missing", "other"])
def test_a_state_dict_of_another_net(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = PAIRS_BY_NAME["squeezenet1_1"]
    (tmp_path / "net.prototxt").write_text(pair.text)
    state = dict(pair.module().state_dict())
    if change == "missing":
        del state["features.3.squeeze.bias"]
    else:
        state["features.40.squeeze.bias"] = torch.zeros(2)
    torch.save(state, tmp_path / "tv.pth")
    target = tmp_path / "net.caffemodel"
    flags = ("--layout", "torchvision", "--model", tmp_path / "net.prototxt")
    assert run(tmp_path / "tv.pth", target, *flags) == 1
    error = capsys.readouterr().err
    if change == "missing":
        assert "has no features.3.squeeze.bias, which torchvision's squeezenet1_1 has" in error
    else:
        assert "has features.40.squeeze.bias, which torchvision's squeezenet1_1 has not" in error
    assert not target.exists()


def grouped_alexnet() -> str:
    net = NetText(227)
    x = net.pool(net.relu(net.conv("data", 4, 11, "stride: 4")), 3, 2)
    x = net.layer("LRN", "", x)
    x = net.pool(net.relu(net.conv(x, 4, 5, "pad: 2 group: 2")), 3, 2)
    for _ in range(3):
        x = net.relu(net.conv(x, 4, 3, "pad: 1"))
    net.linear(net.hidden(net.hidden(net.pool(x, 3, 2), 4), 4), 5)
    return net.text()


DIFFERING = {
    "groups and LRN": (
        grouped_alexnet(),
        "alexnet",
        ("(LRN) has no counterpart", "has groups 2", "has pad 0x0, torchvision's features.0 2x2"),
    ),
    "stride in the first convolution": (
        resnet_text((3, 4, 6, 3), 4, 2, stride_in_first=True),
        "resnet50",
        (
            "has stride 2x2, torchvision's layer2.0.conv1 1x1",
            "has stride 1x1, torchvision's layer2.0.conv2 2x2",
        ),
    ),
    "rounding": (
        resnet_text((2, 2, 2, 2), 1, 2).replace(" ceil_mode: false", ""),
        "resnet18",
        ("gives a map of 17x17, torchvision's pooling there one of 16x16: Caffe rounds up",),
    ),
    "no batch normalisation": (
        googlenet_text(2, norm=False),
        "googlenet",
        ("has no batch normalisation behind it, as torchvision's net has",),
    ),
    "size of the input": (
        PAIRS_BY_NAME["vgg11"].text.replace("dim: 224", "dim: 64"),
        "vgg11",
        ("reads a map of 2x2, torchvision's classifier.0 one of 7x7",),
    ),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_what_differs_is_said_and_nothing_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, nearest, expected = DIFFERING[name]
    random_net(text, tmp_path)
    target = tmp_path / "tv.pt"
    assert run(tmp_path / "net.caffemodel", target, "--layout", "torchvision") == 1
    error = capsys.readouterr().err
    assert f"differs from torchvision's {nearest}, to which it is nearest" in error
    for part in expected:
        assert part in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deploy.prototxt", "net.caffemodel"]


def test_a_layout_needs_names_and_a_definition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_net(PAIRS_BY_NAME["squeezenet1_1"].text, tmp_path)
    source = tmp_path / "net.caffemodel"
    assert run(source, tmp_path / "x.npz", "--layout", "torchvision") == 1
    assert "is about a state dict, .pt or .safetensors, and this is none" in capsys.readouterr().err
    # Weights without their layers' settings, and no definition beside them.
    weights = Net(tmp_path / "deploy.prototxt", weights=source).to_weights()
    save_weights(weights, source)
    (tmp_path / "deploy.prototxt").unlink()
    assert run(source, tmp_path / "x.pt", "--layout", "torchvision") == 1
    assert "--layout torchvision needs the net's definition" in capsys.readouterr().err
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "tv.pt")
    assert run(tmp_path / "tv.pt", tmp_path / "x.npz", "--layout", "torchvision") == 1
    assert "weights under torchvision's names need the net's def" in capsys.readouterr().err


def names_of(operation: Operation) -> list[str]:
    """The names in a state dict of a operation's parameters."""
    endings = ["weight", "bias"]
    if operation.kind == NORM:
        endings += ["running_mean", "running_var"]
    elif operation.kind == CONVOLUTION and not operation.settings["bias"]:
        endings = ["weight"]
    return [f"{operation.name}.{ending}" for ending in endings]


def test_the_names_are_torchvisions() -> None:
    models: Any = pytest.importorskip("torchvision").models
    for family in layouts:
        for architecture in layouts.find(family)():
            more = {"init_weights": False, "aux_logits": False} if family == "googlenet" else {}
            with torch.device("meta"):
                state = getattr(models, architecture.name)(weights=None, **more).state_dict()
            operations = [
                operation for operation in all_operations(architecture.output) if operation.name
            ]
            expected = {name for name in state if not name.endswith(".num_batches_tracked")}
            assert {name for operation in operations for name in names_of(operation)} == expected
