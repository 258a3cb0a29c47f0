"""A net that is built with weights: the fillers make only what the weights lack."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import LayerError, UnknownName
from caffecompat.net.parameters import initial_values
from caffecompat.proto.schema import Message
from caffecompat.proto.text.parser import parse_text
from caffecompat.weights import LayerWeights, Weights

LAYER = """layer {{ name: "{name}" type: "InnerProduct" bottom: "x" top: "{name}" {shared}
  inner_product_param {{ num_output: {outputs} weight_filler {{ {filler} }}
    bias_filler {{ type: "uniform" }} }} }}"""
INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }'
GAUSSIAN = 'type: "gaussian" std: 0.1'


def definition(filler: str = GAUSSIAN, shared: str = "") -> Message:
    layers = (
        LAYER.format(name=name, outputs=4, filler=filler, shared=shared) for name in ("a", "b")
    )
    return parse_text("\n".join((INPUT, *layers)), "NetParameter")[0]


def of_a(*shape: int) -> Weights:
    blobs = [np.full(shape, 2, np.float32), np.full(shape[:1], 3, np.float32)]
    return Weights([LayerWeights("a", "InnerProduct", blobs)], "one")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parameters whose fillers make values from now on."""
    places: list[str] = []
    fill = initial_values.fill

    def record(
        message: Message, shape: tuple[int, ...], generator: torch.Generator, place: str
    ) -> torch.Tensor:
        places.append(place.split("layer ")[1])
        return fill(message, shape, generator, place)

    monkeypatch.setattr(initial_values, "fill", record)
    return places


def test_the_rest_has_the_values_of_a_net_without_weights(drawn: list[str]) -> None:
    filled = Net(definition(), seed=7)
    filled.load_weights(of_a(4, 6))
    drawn.clear()
    net = Net(definition(), seed=7, weights=of_a(4, 6))
    assert drawn == ["'b' (InnerProduct): weight", "'b' (InnerProduct): bias"]
    assert filled.state_dict().keys() == net.state_dict().keys()
    for name, value in filled.state_dict().items():
        assert value.equal(net.state_dict()[name]), name


def test_a_shared_parameter_is_filled_unless_one_of_its_layers_is_loaded(drawn: list[str]) -> None:
    message = definition(shared='param { name: "w" }')
    loaded = Net(message, weights=of_a(4, 6))
    assert drawn == ["'b' (InnerProduct): bias"]
    assert loaded.params["b"][0].data.ravel().tolist() == [2] * 24
    # Of the two layers the second has values in the file; the first owns the parameter.
    other = Weights([LayerWeights("b", "InnerProduct", of_a(4, 6).layers[0].blobs)], "one")
    drawn.clear()
    assert Net(message, weights=other).params["a"][0].data.ravel().tolist() == [2] * 24
    assert drawn == ["'a' (InnerProduct): bias"]


def test_lenient_weights_that_match_nothing_leave_all_to_the_fillers() -> None:
    nothing = Weights([LayerWeights("z", "InnerProduct", of_a(4, 6).layers[0].blobs)], "one")
    net = Net(definition(), seed=7, weights=nothing, lenient=True)
    for name, value in Net(definition(), seed=7).state_dict().items():
        assert value.equal(net.state_dict()[name]), name


@pytest.mark.parametrize(
    ("filler", "error", "sentence"),
    [
        ('type: "gaussian" std: 0', LayerError, "std is 0, it must be positive"),
        ('type: "gaussian" sparse: 5', LayerError, "sparse is 5, it must be between 0 and"),
        ('type: "uniform" min: 2', LayerError, "min 2 is above max 1"),
        ('type: "xavier" sparse: 1', LayerError, "sparse is for gaussian only"),
        ('type: "bilinear"', LayerError, "it must have 4 axes"),
        ('type: "diagonal"', LayerError, "it is for weights of 4 axes"),
        ('type: "identity"', LayerError, "as many outputs as inputs"),
        ('type: "gausian"', UnknownName, "unknown filler 'gausian'"),
    ],
)
def test_a_filler_that_is_not_used_is_checked(
    filler: str, error: type[Exception], sentence: str
) -> None:
    weights = Weights(
        [LayerWeights(name, "InnerProduct", of_a(4, 6).layers[0].blobs) for name in "ab"], "one"
    )
    with pytest.raises(error, match=sentence) as found:
        Net(definition(filler), weights=weights)
    with pytest.raises(error) as without_weights:
        Net(definition(filler))
    assert str(found.value) == str(without_weights.value)
