"""Labels and indices of a batch that a GPU's kernels could not use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caffecompat.errors import DataError
from caffecompat.net import Net
from caffecompat.net.blobs.inputs import Inputs
from caffecompat.proto.text.parser import parse_text

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "label" top: "index" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 } shape { dim: 2 }
  data_filler { type: "gaussian" } data_filler { value: 0 } data_filler { value: 0 } } }
layer { name: "again" type: "BatchReindex" bottom: "x" bottom: "index" top: "again" }
layer { name: "embed" type: "Embed" bottom: "label" top: "embed"
  embed_param { input_dim: 5 num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 } }
layer { name: "accuracy" type: "Accuracy" bottom: "x" bottom: "label" top: "accuracy" }
"""


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a net on a GPU."""
    monkeypatch.setattr(Inputs, "_on_gpu", True)


def net_with(label: Any, index: Any, definition: str = NET) -> Net:
    net = Net(parse_text(definition, "NetParameter")[0], phase="train", seed=1)
    source = net.layers[0].source
    assert source is not None
    arrays = [np.zeros((4, 3), np.float32), *(np.array(a, np.float32) for a in (label, index))]
    source.read_for_gpu = lambda pass_index: arrays  # type: ignore
    return net


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize(
    ("label", "index", "words"),
    [
        ([0, 1, 2, 3], [0, 3], "layer 'loss' (SoftmaxWithLoss): label 3 of 'label', expected 0 to"),
        ([0, -1, 2, 0], [0, 3], "layer 'embed' (Embed): index -1 of 'label', expected 0 to 4"),
        ([0, 1, 2, 7], [0, 3], "for 5 rows of its table (input_dim)"),
        ([0, float("nan"), 2, 0], [0, 3], "index nan of 'label'"),
        ([0, 1, 2, 0], [0, 4], "layer 'again' (BatchReindex): index 4 of 'index', expected 0 to 3"),
        ([0, 1, 2, 0], [-1, 0], "index -1 of 'index'"),
    ],
)
def test_a_number_that_no_layer_accepts(label: Any, index: Any, words: str) -> None:
    net = net_with(label, index)
    with pytest.raises(DataError) as caught:
        net.run(5)
    assert words in str(caught.value)
    net.read_ahead(5)
    with pytest.raises(DataError):
        net.run(5)


@pytest.mark.usefixtures("on_gpu")
def test_numbers_that_are_accepted() -> None:
    """Truncated toward zero, as layers do; ``ignore_label``; the bounds themselves."""
    without = "\n".join(line for line in NET.splitlines() if "mbed" not in line)
    without = without.replace('layer { name: "accuracy"', 'layer { name: "other"').replace(
        'type: "Accuracy"', 'accuracy_param { ignore_label: 255 } type: "Accuracy"'
    )
    net = net_with([2.9, 255, -0.5, 0], [3.5, 0], without)
    assert float(net.run(0).loss) > 0


def test_on_the_cpu_the_layers_refuse() -> None:
    """Nothing is looked at twice there."""
    net = net_with([0, 1, 2, 0], [0, 0])
    source = net.layers[0].source
    assert source is not None
    source.read = lambda index: [np.zeros((4, 3)), np.full(4, 9.0), np.zeros(2)]  # type: ignore
    with pytest.raises(Exception, match="outside 0 to"):
        net.run(0)
