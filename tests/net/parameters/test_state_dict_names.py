"""Module names for layers: reversible, and clear of everything that torch uses itself."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx

from caffecompat import LayerWeights
from caffecompat.layers._base import catalogue
from caffecompat.net.parameters.state_dict_names import (
    RESERVED,
    blob_order,
    layer_name,
    module_name,
    torch_naming,
)


@given(st.text())
def test_every_name_comes_back(name: str) -> None:
    spelled = module_name(name)
    assert layer_name(spelled) == name
    assert spelled
    assert "." not in spelled


@given(st.text(), st.text())
def test_different_names_stay_different(one: str, two: str) -> None:
    assert (module_name(one) == module_name(two)) == (one == two)


def test_names_of_the_field_are_left_alone() -> None:
    for name in ("conv1_1", "fc6", "inception_3a/1x1", "res2a_branch1", "loss1/top-5"):
        assert module_name(name) == name


def test_reserved_names_are_torchs() -> None:
    empty = fx.GraphModule({}, fx.Graph())
    used = {*dir(torch.nn.Module), *dir(torch.nn.Module()), *dir(fx.GraphModule), *dir(empty)}
    assert {name for name in used if not name.startswith("_")} <= RESERVED
    for name in used:
        assert module_name(name) not in used


def test_blob_names_come_from_the_type() -> None:
    naming = torch_naming()
    cases = {
        ("conv", "Convolution", 2): ["conv.weight", "conv.bias"],
        ("bn", "BatchNorm", 3): ["bn.mean", "bn.variance", "bn.scale_factor"],
        ("a.b", "FromAFork", 3): ["a%2Eb.weight", "a%2Eb.bias", "a%2Eb.blob2"],
        ("r", "ReLU", 0): [],
    }
    for (name, type_, count), expected in cases.items():
        assert naming.names(LayerWeights(name, type_, blobs=[np.zeros(1)] * count)) == expected


def test_blobs_are_ordered_by_name_as_by_the_types() -> None:
    """A file of the library safetensors has its arrays in alphabetical order."""
    for kind in (kind for name in catalogue for kind in catalogue.definitions(name)):
        for count in range(len(kind.parameters) + 1):
            names = kind.parameter_names(count)
            if names[:3] != ["weight_x", "weight_h", "bias"]:  # Lstm of caffe-lstm
                assert blob_order(sorted(names)) == names, kind
    names = ["weight", "bias", *(f"blob{index}" for index in range(2, 12))]
    assert blob_order(sorted(names)) == names
    assert blob_order(["running_var", "weight", "bias"]) == ["running_var", "weight", "bias"]


def test_blobs_of_both_lstms_are_told_by_their_shapes() -> None:
    """BVLC's has the bias second, that of caffe-lstm last."""
    inputs, hidden, bias = (np.zeros(shape) for shape in ((12, 5), (12, 3), (12,)))
    expected = {
        ("weight_x", "bias", "weight_h"): [inputs, bias, hidden],
        ("weight_x", "weight_h", "bias"): [inputs, hidden, bias],
        ("weight_x", "bias", "weight_x_static", "weight_h"): [inputs, bias, inputs, hidden],
    }
    for names, blobs in expected.items():
        found = torch_naming().names(LayerWeights("lstm", "LSTM", blobs=blobs))
        assert found == [f"lstm.{name}" for name in names]
