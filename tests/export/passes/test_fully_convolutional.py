"""The pass that turns InnerProduct layers into convolutions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffecompat import Net
from caffecompat.errors import ExportError, WeightsError
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.net.definition import read_definition
from caffecompat.weights import Weights, load_weights, save_weights
from tests.export.passes.models import layer_types, net_text, outputs, random_model, snapshot
from tests.net.nets import message
from tests.places import REPOSITORY

CONV = (
    'name: "conv" type: "Convolution" bottom: "data" top: "conv" '
    "convolution_param { num_output: 4 kernel_size: 2 }"
)
POOL = (
    'name: "pool" type: "Pooling" bottom: "conv" top: "pool" '
    "pooling_param { kernel_size: 2 stride: 2 }"
)


def fc(name: str, bottom: str, count: int, more: str = "") -> str:
    return (
        f'name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        f"inner_product_param {{ num_output: {count} {more} }}"
    )


def layer(name: str, kind: str, bottom: str, top: str, more: str = "") -> str:
    return f'name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {more}'


CLASSIFIER = net_text(
    (2, 3, 9, 7),
    CONV,
    POOL,
    layer("flat", "Flatten", "pool", "flat"),
    layer("drop", "Dropout", "flat", "flat"),
    fc("fc6", "flat", 6),
    layer("relu6", "ReLU", "fc6", "fc6"),
    fc("fc7", "fc6", 5, "bias_term: false axis: -1"),
    layer("prelu", "PReLU", "fc7", "fc7"),
    layer("norm", "BatchNorm", "fc7", "norm"),
    layer("scale", "Scale", "norm", "norm", "scale_param { axis: -1 bias_term: true }"),
    layer("prob", "Softmax", "norm", "prob", "softmax_param { axis: -1 }"),
)


def assert_same_outputs(old: CaffeModel, new: CaffeModel) -> None:
    before, after = outputs(old), outputs(new)
    assert before.keys() == after.keys()
    for name, expected in before.items():
        assert after[name].size == expected.size
        np.testing.assert_allclose(after[name].reshape(expected.shape), expected, atol=1e-5)


def test_the_outputs_are_the_same_and_the_model_is_not_changed() -> None:
    model = random_model(CLASSIFIER)
    before = snapshot(model)
    new = fully_convolutional(model)
    assert_same_outputs(model, new)
    assert snapshot(model) == before
    assert layer_types(new) == {
        "data": "Input",
        "conv": "Convolution",
        "pool": "Pooling",
        "drop": "Dropout",
        "fc6": "Convolution",
        "relu6": "ReLU",
        "fc7": "Convolution",
        "prelu": "PReLU",
        "norm": "BatchNorm",
        "scale": "Scale",
        "prob": "Softmax",
    }
    (fc6,) = [m for m in new.definition.message.layer if m.name == "fc6"]
    assert (fc6.convolution_param.kernel_h, fc6.convolution_param.kernel_w) == (4, 3)
    assert outputs(new)["prob"].shape == (2, 5, 1, 1)


def test_a_larger_image_gives_one_output_for_each_place() -> None:
    model = random_model(net_text((1, 3, 4, 5), fc("fc", "data", 6)))
    new = fully_convolutional(model)
    image = np.random.default_rng(3).standard_normal((1, 3, 6, 6)).astype(np.float32)
    large = new.net().forward(data=image)["fc"]
    assert large.shape == (1, 6, 3, 2)
    part = model.net().forward(data=image[:, :, 2:6, 1:6].copy())["fc"]
    np.testing.assert_allclose(large[:, :, 2, 1], part, atol=1e-5)


def test_the_result_has_the_same_values_after_writing_and_reading(tmp_path: Path) -> None:
    folder = tmp_path
    model = random_model(CLASSIFIER)
    new = fully_convolutional(model, suffix="-conv")
    save_weights(new.weights, folder / "new.caffemodel")
    again = CaffeModel(new.definition, load_weights(folder / "new.caffemodel"))
    assert_same_outputs(model, again)
    assert {"fc6-conv", "fc7-conv", "prelu"} <= set(layer_types(again))
    assert again.definition.message.layer[-1].bottom == ["norm"]


def test_weights_are_not_copied() -> None:
    model = random_model(CLASSIFIER)
    new = fully_convolutional(model)
    for name in ("fc6", "fc7", "conv"):
        assert np.shares_memory(model.weights[name].blobs[0], new.weights[name].blobs[0])


def test_a_transposed_weight() -> None:
    model = random_model(net_text((2, 3, 4, 5), fc("fc", "data", 6, "transpose: true")))
    new = fully_convolutional(model)
    assert new.weights["fc"].blobs[0].shape == (6, 3, 4, 5)
    assert_same_outputs(model, new)


def test_legacy_blobs_of_four_axes() -> None:
    model = random_model(net_text((2, 3, 4, 5), fc("fc", "data", 6)))
    entry = model.weights["fc"]
    entry.blobs = [entry.blobs[0].reshape(1, 1, 6, 60), entry.blobs[1].reshape(1, 1, 1, 6)]
    entry.legacy = [True, True]
    assert_same_outputs(model, fully_convolutional(model))


def test_other_numbers_of_axes() -> None:
    for shape in ((2, 3, 5), (2, 3, 2, 4, 3), (2, 3, 2, 2, 2)):
        model = random_model(net_text(shape, fc("fc", "data", 4), fc("two", "fc", 3)))
        assert_same_outputs(model, fully_convolutional(model))


def test_values_in_the_prototxt_are_reshaped() -> None:
    embedded = "blobs { shape { dim: 2 dim: 6 } " + "data: 0.5 " * 12 + "}"
    text = net_text((1, 1, 2, 3), fc("fc", "data", 2, "bias_term: false") + embedded)
    model = CaffeModel(read_definition(message(text)), Weights())
    assert_same_outputs(model, fully_convolutional(model))


def test_branches_join_as_maps() -> None:
    text = net_text(
        (2, 3, 4, 5),
        fc("a", "data", 6),
        fc("b", "data", 6),
        'name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum"',
        'name: "both" type: "Concat" bottom: "sum" bottom: "b" top: "both" '
        "concat_param { axis: -1 }",
        'name: "cut" type: "Slice" bottom: "both" top: "x" top: "y" '
        "slice_param { axis: -1 slice_point: 4 }",
        fc("c", "x", 3),
    )
    model = random_model(text)
    new = fully_convolutional(model)
    assert_same_outputs(model, new)
    assert outputs(new, data=(2, 3, 5, 7))["c"].shape == (2, 3, 2, 3)


def test_a_reshape_that_flattens_goes_and_one_that_has_other_readers_stays() -> None:
    text = net_text(
        (2, 3, 4, 5),
        layer("r", "Reshape", "data", "r", "reshape_param { shape { dim: 0 dim: -1 } }"),
        fc("fc", "r", 6),
        layer("f", "Flatten", "fc", "f"),
        layer("n", "Reshape", "f", "n", "reshape_param { shape { dim: 0 dim: 2 dim: 3 } }"),
    )
    model = random_model(text)
    new = fully_convolutional(model)
    assert "r" not in layer_types(new)
    assert "f" in layer_types(new)
    assert_same_outputs(model, new)


def test_all_layers_that_cannot_be_converted_are_named() -> None:
    text = net_text(
        (2, 3, 4, 5),
        layer("flat", "Flatten", "data", "flat"),
        layer("sum", "Reduction", "flat", "sum"),
        fc("a", "flat", 6),
        fc("b", "data", 6, "axis: 2"),
        fc("c", "data", 6),
        layer("m", "Reshape", "c", "m", "reshape_param { shape { dim: 0 dim: 2 dim: 3 } }"),
        layer("top", "ArgMax", "c", "best"),
    )
    with pytest.raises(ExportError) as caught:
        fully_convolutional(random_model(text))
    lines = str(caught.value).splitlines()
    assert lines[0] == "the net cannot become fully convolutional:"
    assert lines[1:] == [
        "layer 'a' (InnerProduct): its bottom 'flat', which layer 'sum' (Reduction) reads too, is "
        "2x60, without height and width",
        "layer 'b' (InnerProduct): its axis is 2; only axis 1 is that of channels",
        "layer 'm' (Reshape): it cannot work on maps: 'c' would be 2x6x1x1",
        "layer 'top' (ArgMax): without an axis it looks at all places of a map; give it axis: 1",
    ]


def test_shared_weights_need_one_kernel() -> None:
    share = 'param { name: "w" share_mode: PERMISSIVE }'
    text = net_text((1, 6, 1, 1), fc("a", "data", 6) + share, fc("b", "a", 6) + share)
    model = random_model(text)
    assert_same_outputs(model, fully_convolutional(model))
    text = net_text((1, 2, 3, 1), fc("a", "data", 6) + share, fc("b", "a", 6) + share)
    with pytest.raises(
        ExportError, match=r"'b' .*it shares 'w' with a layer whose weight has anot"
    ):
        fully_convolutional(random_model(text))


def test_a_layer_in_place_after_a_removed_flatten_keeps_the_values_apart() -> None:
    text = net_text(
        (2, 3, 4, 5),
        layer("flat", "Flatten", "data", "flat"),
        layer("relu", "ReLU", "flat", "flat"),
        fc("a", "flat", 4),
        fc("b", "data", 4),
    )
    model = random_model(text)
    new = fully_convolutional(model)
    assert_same_outputs(model, new)
    Net(new.definition, strict=True)


def test_a_net_without_inner_products_stays_as_it_is() -> None:
    model = random_model(net_text((2, 3, 4, 5), CONV))
    assert fully_convolutional(model) is model
    once = fully_convolutional(random_model(CLASSIFIER))
    assert fully_convolutional(once) is once


def test_weights_that_do_not_fit_are_refused() -> None:
    model = random_model(net_text((2, 3, 4, 5), fc("fc", "data", 6)))
    model.weights["fc"].blobs[0] = np.zeros((6, 61), np.float32)
    with pytest.raises(WeightsError, match=r"weight .* is 6x61 in the file, the net needs 6x60"):
        fully_convolutional(model)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 4),
    st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), min_size=1, max_size=3),
    st.booleans(),
)
def test_any_chain(
    shape: tuple[int, ...], chain: list[tuple[int, bool, bool]], flatten: bool
) -> None:
    layers, bottom = [], "data"
    if flatten:
        layers.append(layer("flat", "Flatten", "data", "flat"))
        bottom = "flat"
    for i, (count, bias, transpose) in enumerate(chain):
        settings_ = f"bias_term: {str(bias).lower()} transpose: {str(transpose).lower()}"
        layers += [fc(f"fc{i}", bottom, count, settings_)]
        layers += [layer(f"act{i}", "TanH", f"fc{i}", f"fc{i}")]
        bottom = f"fc{i}"
    model = random_model(net_text(shape, *layers))
    assert_same_outputs(model, fully_convolutional(model))


DEPLOYS = sorted((REPOSITORY / "prototxt").glob("*_deploy.prototxt"))


@pytest.mark.parametrize("path", DEPLOYS, ids=lambda path: path.stem)
def test_the_shapes_of_the_nets_of_the_paper(path: Path) -> None:
    definition = read_definition(path)
    new = fully_convolutional(CaffeModel(definition, Weights()))
    size = 384 if "quickstart" not in str(path) else 64
    net = Net(new.definition, shapes_only=True, shapes={"data": (1, 3, size, size)})
    (output,) = net.outputs
    shape = net.blobs[output].data.shape
    assert len(shape) == 4
    assert min(shape[2:]) > 1
