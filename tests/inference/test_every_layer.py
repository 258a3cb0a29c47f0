"""Each layer type that ONNX knows, in each engine: the net's outputs, for several input sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import CaffeError
from caffecompat.layers import Shape

pytest.importorskip("onnx")

from tests.export.layer_cases import CASES, FORK_CASES, sentence
from tests.export.models import Arrays, expected_outputs, layer_net, model_of, random_inputs
from tests.inference.engine_nets import simple

# Of the largest output, in single precision.
BOUND = 1e-5
ENGINES = ["torch", "onnxruntime", "openvino"]
# Why the engines for ONNX models leave a net to torch.
STATE = "state passes from pass to pass in layer 'one'"


def other_shapes(shape: Shape) -> Iterator[Shape]:
    """Another batch, a larger image, a smaller one of another batch."""
    batch, *rest = shape
    channels, image = rest[:1], rest[1:]
    larger = [extent + 6 + 5 * axis for axis, extent in enumerate(image)]
    smaller = [max(1, extent - 1 - axis) for axis, extent in enumerate(image)]
    yield (batch + 1, *rest)
    yield (batch, *channels, *larger)
    yield (1, *channels, *smaller)


def runs(net: Net) -> list[tuple[Arrays, Arrays]]:
    """Inputs of the sizes that the net takes, those of the definition first, and its outputs."""
    own = {name: tuple(net.blobs[name].shape) for name in net.inputs}
    others = zip(*map(other_shapes, own.values()), strict=True)
    sizes = [own, *(dict(zip(own, shapes, strict=True)) for shapes in others)]
    found = []
    for shapes in sizes:
        inputs = random_inputs(net, shapes=shapes)
        try:
            found.append((inputs, expected_outputs(net, inputs)))
        except CaffeError:
            assert shapes is not own
    return found


def assert_equal(found: Arrays, wanted: Arrays) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        scale = np.abs(value).max(initial=0)
        np.testing.assert_allclose(found[name], value, rtol=0, atol=BOUND * scale)


@pytest.mark.parametrize("one", CASES + FORK_CASES, ids=sentence)
@pytest.mark.parametrize("engine", ENGINES)
def test_layer(one: tuple, engine: str) -> None:
    if engine != "torch":
        pytest.importorskip(engine)
    layer, shapes, tops, _ = one
    build = model_of(layer_net(layer, *shapes, tops=tops)).net
    with torch.no_grad():
        wanted = runs(build())
        net = build()
        made = net.optimize(engine, large_pages=False)
        assert made is not None
        if made.engine != engine:
            assert any(built.layer and built.layer.keeps_state for built in net.layers)
            assert STATE in made.lines[0]
            return
        for inputs, values in wanted:
            assert_equal(expected_outputs(net, inputs), values)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_inputs_of_different_sizes(engine: str) -> None:
    """They have one size in the definition, and its name in the file."""
    if engine != "torch":
        pytest.importorskip(engine)
    inputs = 'name: "i" type: "Input" top: "a" top: "b"'
    shape = "input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } }"
    layers = [f"{inputs} {shape}", *(simple("MVN", f"m{x}", x, f"y{x}") for x in "ab")]
    net = model_of("\n".join(f"layer {{ {layer} }}" for layer in layers)).net()
    given = random_inputs(net, shapes={"a": (2, 3, 6, 4), "b": (1, 3, 8, 9)})
    with torch.no_grad():
        wanted = expected_outputs(net, given)
        net.optimize(engine, large_pages=False)
        assert_equal(expected_outputs(net, given), wanted)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_int8_before_copies_of_rows(engine: str) -> None:
    """OpenVINO ended the process while it compiled the copies in int8."""
    pytest.importorskip(engine)
    layer = """type: "FeatureExtrapolating" feature_extrapolating_param { num_scale_base: 2
        num_per_octave: 1 scale_string: "0.5 1 1.5" }"""
    convolution = """layer { name: "in" type: "Convolution" bottom: "a" top: "in"
        convolution_param { num_output: 2 kernel_size: 3 } }"""
    first = 'layer { name: "one" bottom: '
    text = layer_net(layer, (2, 2, 9, 8))
    net = model_of(text.replace(f'{first}"a"', f'{convolution} {first}"in"')).net()
    inputs = random_inputs(net)
    with torch.no_grad():
        wanted = expected_outputs(net, inputs)["y"]
        made = net.optimize(engine, precision="int8", calibration=[inputs], large_pages=False)
        found = expected_outputs(net, inputs)["y"]
    assert made is not None
    assert made.engine == engine
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", ["ROIPooling", "ROIAlign", "PSROIPooling"])
def test_regions_stay_in_single_precision(kind: str) -> None:
    """In 8 bits coordinates would be off by pixels, in OpenVINO's bf16 too; torch keeps them."""
    pytest.importorskip("openvino")
    size = "output_dim: 3 group_size: 2" if kind[0] == "P" else "pooled_h: 2 pooled_w: 2"
    field = "psroi_pooling_param" if kind[0] == "P" else "roi_pooling_param"
    layer = f'type: "{kind}" {field} {{ {size} spatial_scale: 0.25 }}'
    net = model_of(layer_net(layer, (2, 12, 200, 9), (2, 5))).net()
    regions = np.array([[0, 1, 611, 30, 799], [1, 3, 405, 21, 613]], np.float32)
    inputs = {**random_inputs(net), "b": regions}
    with torch.no_grad():
        wanted = expected_outputs(net, inputs)["y"]
        made = net.optimize("openvino", precision="bf16", large_pages=False)
        found = expected_outputs(net, inputs)["y"]
        with pytest.raises(CaffeError, match="int8 would move the regions of layer 'one'"):
            net.optimize("onnxruntime", precision="int8", calibration=[inputs])
    assert made is not None
    assert made.engine == "torch"
    assert "bf16 would move the regions of layer 'one'" in made.lines[0]
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
