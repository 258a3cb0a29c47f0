"""Parameter values embedded in a prototxt, and shapes of too many axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.errors import BlobError, LayerError
from tests.net.nets import net, saved

SHAPE = "shape { dim: 1 dim: 2 dim: 3 dim: 4 }"
X = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ {SHAPE} }} }}\n'


def layer(type_name: str, text: str) -> str:
    return f'{X}layer {{ name: "one" type: "{type_name}" bottom: "x" top: "y"\n{text} }}'


def blob(*shape: int, values: int | None = None, old: bool = False) -> str:
    count = int(np.prod(shape)) if values is None else values
    data = " ".join(f"data: {i + 1}" for i in range(count))
    if old:
        sizes = zip(("num", "channels", "height", "width"), shape, strict=True)
        return "blobs { " + " ".join(f"{n}: {size}" for n, size in sizes) + f" {data} }}"
    return "blobs { shape { " + " ".join(f"dim: {d}" for d in shape) + f" }} {data} }}"


CONV = "convolution_param { num_output: 2 kernel_h: 1 kernel_w: 3 bias_term: %s }"
INNER = "inner_product_param { num_output: 2 bias_term: false }"
SCALE = "scale_param { axis: 1 num_axes: 2 }"


@pytest.mark.parametrize(
    ("type_name", "text"),
    [
        ("Convolution", CONV % "false" + blob(2, 2, 1, 3)),
        ("Convolution", CONV % "false" + blob(2, 2, 1, 3, old=True)),
        ("Convolution", CONV % "true" + blob(2, 2, 1, 3) + blob(2)),
        ("InnerProduct", INNER + blob(2, 24)),
        ("InnerProduct", INNER + blob(1, 1, 2, 24, old=True)),
        ("Scale", SCALE + blob(2, 3)),
        ("Scale", SCALE + blob(1, 1, 2, 3, old=True)),
        ("PReLU", blob(2)),
    ],
)
def test_taken(type_name: str, text: str) -> None:
    small = net(layer(type_name, text))
    assert not small.notes
    first = small.params["one"][0].detach().numpy()
    np.testing.assert_array_equal(first.ravel(), np.arange(first.size) + 1)


@pytest.mark.parametrize(
    ("type_name", "text", "sentence"),
    [
        (
            "Convolution",
            CONV % "false" + blob(2, 2, 3, 1),
            "embedded blob 0 is 2x2x3x1, but the layer's weight is 2x2x1x3; give it that shape",
        ),
        ("Convolution", CONV % "false" + blob(12), "is 12, but the layer's weight is 2x2x1x3"),
        ("Convolution", CONV % "true" + blob(2, 2, 1, 3), "embeds 1 blobs, the layer has 2"),
        (
            "Convolution",
            CONV % "true" + blob(2, 2, 1, 3) + blob(1, 2),
            "embedded blob 1 is 1x2, but the layer's bias is 2",
        ),
        ("Deconvolution", CONV % "false" + blob(2, 6), "is 2x6, but the layer's weight is 2x2x1x3"),
        ("Scale", SCALE + blob(3, 2), "is 3x2, but the layer's weight is 2x3"),
        ("Scale", SCALE + blob(2, 3, 1, 1, old=True), "is 2x3x1x1, but the layer's weight is 2x3"),
        ("InnerProduct", INNER + blob(2, 23), "is 2x23, but the layer's weight is 2x24"),
        ("InnerProduct", INNER + blob(2, 24, values=47), "holds 47 values, but its shape is 2x24"),
        ("InnerProduct", INNER + blob(-2, -24, values=48), "but its shape is -2x-24"),
        (
            "InnerProduct",
            INNER + "blobs { data: [" + ",".join("1" * 48) + "] }",
            "holds 48 values, but its shape is missing",
        ),
        ("PReLU", blob(*[1] * 33, values=2), "embedded blob 0 has 33 axes, at most 32 are allowed"),
    ],
)
@pytest.mark.parametrize("shapes_only", [False, True])
def test_refused(
    tmp_path: Path, type_name: str, text: str, sentence: str, shapes_only: bool
) -> None:
    path = saved(tmp_path, layer(type_name, text))
    with pytest.raises(LayerError) as caught:
        Net(path, shapes_only=shapes_only)
    assert str(caught.value).startswith(f"{path}:2: layer 'one' ({type_name}): ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("shape", [(24, 2), (1, 1, 2, 24), (48,)])
def test_an_inner_product_takes_values_in_their_order(shape: tuple[int, ...]) -> None:
    """As in Caffe, which does not look at the shape; a note says so."""
    small = net(layer("InnerProduct", INNER + blob(*shape)))
    (note,) = small.notes
    assert "the layer's weight is 2x24; its values are taken in their order" in note
    expected = np.arange(48).reshape(2, 24) + 1
    np.testing.assert_array_equal(small.params["one"][0].detach().numpy(), expected)


MANY = "shape { " + "dim: 1 " * 33 + "}"
MOST = "shape { " + "dim: 1 " * 32 + "}"


@pytest.mark.parametrize(
    ("text", "who"),
    [
        (f'layer {{ name: "x" type: "Input" top: "x" input_param {{ {MANY} }} }}', "the input"),
        (f'layer {{ name: "d" type: "DummyData" top: "d" dummy_data_param {{ {MANY} }} }}', "'d'"),
        (f'layer {{ name: "p" type: "Parameter" top: "p" parameter_param {{ {MANY} }} }}', "value"),
        (layer("Reshape", f"reshape_param {{ {MANY.replace('dim: 1', 'dim: 24', 1)} }}"), "'y'"),
        (
            f'layer {{ name: "x" type: "Input" top: "x" input_param {{ {MOST} }} }}'
            'layer { name: "e" type: "Embed" bottom: "x" top: "e"'
            " embed_param { num_output: 2 input_dim: 3 } }",
            "'e'",
        ),
    ],
)
def test_more_than_32_axes(text: str, who: str) -> None:
    with pytest.raises(LayerError, match=f"{who} has 33 axes, at most 32 are allowed"):
        net(text)


def test_inputs_of_more_than_32_axes() -> None:
    small = net(f'layer {{ name: "x" type: "Input" top: "x" input_param {{ {MOST} }} }}')
    small.forward(x=np.ones([1] * 32, np.float32))
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # earlier arrays have at most 32 axes
        with pytest.raises(BlobError, match="'x': a shape of 33 axes, at most 32"):
            small.forward(x=np.ones([1] * 33, np.float32))
    with pytest.raises(BlobError, match="'x': a shape of 33 axes, at most 32"):
        small.blobs["x"].reshape(*[1] * 33)
