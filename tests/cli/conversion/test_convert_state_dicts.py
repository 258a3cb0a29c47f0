"""``caffecompat convert`` of state dicts that other programs wrote: order and names of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.weights import load_weights

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 3 dim: 7 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def net(tmp_path: Path) -> Net:
    (tmp_path / "deploy.prototxt").write_text(NET)
    net = Net(tmp_path / "deploy.prototxt", seed=7)
    with torch.no_grad():
        for index, parameter in enumerate(net.state_dict().values()):
            if parameter.dim() == 1:
                parameter.add_(index + 1)
    return net


def check(net: Net, source: Path, *flags: str) -> None:
    """Converts ``source`` and compares every blob with the net's."""
    target = source.parent / "out.caffemodel"
    assert main(["convert", str(source), str(target), "--force", *flags]) == 0
    found = load_weights(target)
    for layer in (layer for layer in net.to_weights().layers if layer.blobs):
        for ours, theirs in zip(layer.blobs, found[layer.name].blobs, strict=True):
            np.testing.assert_array_equal(theirs.reshape(ours.shape), ours)


@pytest.mark.parametrize("definition", [True, False], ids=["definition", "names alone"])
def test_arrays_in_alphabetical_order(definition: bool, net: Net, tmp_path: Path) -> None:
    """As the library safetensors writes them: bias before weight, scale_factor before variance."""
    library = pytest.importorskip("safetensors.torch")
    folder = tmp_path / "other"
    folder.mkdir()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    library.save_file(state, folder / "net.safetensors")
    if definition:
        check(net, folder / "net.safetensors", "--model", str(tmp_path / "deploy.prototxt"))
    else:
        check(net, folder / "net.safetensors")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_a_wrapped_module(prefix: str, net: Net, tmp_path: Path) -> None:
    """DataParallel and torch.compile put the names of their own modules before."""
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    check(net, tmp_path / "net.pt", "--model", str(tmp_path / "deploy.prototxt"))


def test_a_layer_called_module_keeps_its_name(net: Net, tmp_path: Path) -> None:
    torch.save({"module.weight": torch.ones(2, 3), "fc.bias": torch.ones(2)}, tmp_path / "a.pt")
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "a.npz")]) == 0
    assert set(np.load(tmp_path / "a.npz")) == {"module/0", "fc/0"}
