"""The pass that folds BatchNorm and Scale into the layer before them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffecompat import Net
from caffecompat.errors import ExportError, WeightsError
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fold_batch_norm import fold_batch_norm
from caffecompat.net.definition import read_definition
from caffecompat.weights import Weights, load_weights, save_weights
from tests.export.passes.models import layer_types, net_text, outputs, random_model, snapshot
from tests.net.nets import message


def conv(name: str = "conv", bottom: str = "data", more: str = "") -> str:
    return (
        f'name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: 6 kernel_size: 2 {more} }}"
    )


def norm(bottom: str, top: str, name: str = "bn", more: str = "") -> str:
    return f'name: "{name}" type: "BatchNorm" bottom: "{bottom}" top: "{top}" {more}'


def scale(bottom: str, top: str, more: str = "bias_term: true") -> str:
    return f'name: "scale" type: "Scale" bottom: "{bottom}" top: "{top}" scale_param {{ {more} }}'


def assert_folded(model: CaffeModel, left: int = 0) -> CaffeModel:
    before = snapshot(model)
    new = fold_batch_norm(model)
    assert snapshot(model) == before
    assert list(layer_types(new).values()).count("BatchNorm") == left
    expected, found = outputs(model), outputs(new)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)
    Net(new.definition, strict=True)
    return new


BATCH_STATISTICS = "batch_norm_param { use_global_stats: false }"
SHAPE = (2, 4, 5, 7)


@pytest.mark.parametrize(
    "layers",
    [
        [conv(), norm("conv", "conv"), scale("conv", "conv")],
        [conv(more="bias_term: false"), norm("conv", "bn"), scale("bn", "s")],
        [conv(more="group: 2"), norm("conv", "conv", more="batch_norm_param { eps: 0.3 }")],
        [conv(), norm("conv", "conv"), scale("conv", "s", "axis: -3")],
        [
            'name: "conv" type: "Deconvolution" bottom: "data" top: "conv" '
            "convolution_param { num_output: 6 kernel_size: 2 group: 2 bias_term: false }",
            norm("conv", "conv"),
            scale("conv", "conv"),
        ],
        [
            'name: "fc" type: "InnerProduct" bottom: "data" top: "fc" '
            "inner_product_param { num_output: 3 }",
            norm("fc", "fc"),
            scale("fc", "fc", "num_axes: -1"),
        ],
        [
            'name: "fc" type: "InnerProduct" bottom: "data" top: "fc" '
            "inner_product_param { num_output: 3 transpose: true }",
            norm("fc", "fc"),
        ],
        [conv(), norm("conv", "a"), norm("a", "b", "bn2")],
    ],
)
def test_the_outputs_are_the_same(layers: list[str]) -> None:
    relu = 'name: "relu" type: "ReLU" bottom: "{0}" top: "{0}"'
    last = layers[-1].split('top: "')[1].split('"')[0]
    new = assert_folded(random_model(net_text(SHAPE, *layers, relu.format(last))))
    assert len(layer_types(new)) == 3


def test_several_readers_of_the_result() -> None:
    text = net_text(
        SHAPE,
        conv(),
        norm("conv", "conv"),
        scale("conv", "conv"),
        'name: "a" type: "TanH" bottom: "conv" top: "a"',
        'name: "b" type: "Sigmoid" bottom: "conv" top: "b"',
    )
    assert_folded(random_model(text))


def test_a_factor_of_zero_means_statistics_of_zero() -> None:
    model = random_model(net_text(SHAPE, conv(), norm("conv", "conv")))
    model.weights["bn"].blobs[2][:] = 0
    model = CaffeModel(model.definition, model.weights)
    new = fold_batch_norm(model)
    np.testing.assert_allclose(
        new.weights["conv"].blobs[0], model.weights["conv"].blobs[0] / 1e-5**0.5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([norm("data", "bn"), conv(bottom="bn")], "layer 'data' (Input) makes its bottom"),
        (
            [conv(), norm("conv", "bn"), 'name: "t" type: "TanH" bottom: "conv" top: "t"'],
            "layer 't' (TanH) reads its bottom too",
        ),
        (
            [conv(), norm("conv", "bn", more=BATCH_STATISTICS)],
            "it uses the statistics of each batch",
        ),
        (
            [
                conv() + 'param { name: "w" }',
                norm("conv", "bn"),
                conv("twin") + 'param { name: "w" }',
            ],
            "layer 'conv' (Convolution) shares its parameters",
        ),
        (
            [
                'name: "fc" type: "InnerProduct" bottom: "data" top: "fc" '
                "inner_product_param { num_output: 3 axis: 2 }",
                norm("fc", "fc"),
            ],
            "layer 'fc' (InnerProduct) works along another axis",
        ),
        (
            [
                'name: "c" type: "Convolution" bottom: "data" bottom: "data" top: "c" top: "d" '
                "convolution_param { num_output: 6 kernel_size: 2 }",
                norm("c", "e"),
            ],
            "layer 'c' (Convolution) has several bottoms",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_folded_stays_and_is_named(layers: list[str], reason: str) -> None:
    model = random_model(net_text(SHAPE, *layers))
    new = assert_folded(model, left=1)
    assert any(
        "'bn' (BatchNorm): stays, because" in n and reason in n for n in new.definition.notes
    )


def test_a_scale_that_is_read_elsewhere_or_has_two_bottoms_stays() -> None:
    text = net_text(
        SHAPE,
        conv(),
        norm("conv", "bn"),
        scale("bn", "s"),
        'name: "t" type: "TanH" bottom: "bn" top: "t"',
    )
    new = assert_folded(random_model(text))
    assert "scale" in layer_types(new)
    two = 'name: "m" type: "Scale" bottom: "bn" bottom: "bn" top: "m" scale_param { axis: 0 }'
    assert_folded(random_model(net_text(SHAPE, conv(), norm("conv", "bn"), two)))


def test_the_result_can_be_written_read_and_passed_again(tmp_path: Path) -> None:
    layers = [conv(more="bias_term: false"), norm("conv", "bn"), scale("bn", "s")]
    model = random_model(net_text(SHAPE, *layers))
    new = fold_batch_norm(model)
    assert fold_batch_norm(new) is new
    assert [entry.name for entry in new.weights.layers] == ["data", "conv"]
    save_weights(new.weights, tmp_path / "w.caffemodel")
    again = CaffeModel(new.definition, load_weights(tmp_path / "w.caffemodel"))
    np.testing.assert_allclose(outputs(again)["s"], outputs(model)["s"], atol=1e-4)


def test_layers_without_values_are_refused() -> None:
    model = random_model(net_text(SHAPE, conv(), norm("conv", "bn")))
    kept = Weights([entry for entry in model.weights.layers if entry.name != "bn"])
    with pytest.raises(ExportError, match=r"'bn' \(BatchNorm\): no values in the weights"):
        fold_batch_norm(CaffeModel(model.definition, kept))
    with pytest.raises(WeightsError):
        fold_batch_norm(
            CaffeModel(
                read_definition(message(net_text(SHAPE, conv(), norm("conv", "b")))), Weights()
            )
        )


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.sampled_from([2, 4]), st.integers(2, 5), st.integers(2, 5)),
    st.sampled_from(["Convolution", "Deconvolution"]),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.floats(1e-5, 1.0),
)
def test_any_convolution(
    shape: tuple[int, ...], kind: str, group: int, bias: bool, shift: bool, eps: float
) -> None:
    text = net_text(
        shape,
        f'name: "c" type: "{kind}" bottom: "data" top: "c" convolution_param {{ num_output: 6 '
        f"kernel_size: 2 group: {group} bias_term: {str(bias).lower()} }}",
        norm("c", "c", more=f"batch_norm_param {{ eps: {eps} }}"),
        scale("c", "c", f"bias_term: {str(shift).lower()}"),
    )
    assert_folded(random_model(text))
