"""Sums of two inputs in optimized nets: their shapes must agree, as in the net's own passes."""

from __future__ import annotations

import pytest
import torch

from caffecompat import Net
from caffecompat.errors import LayerError
from tests.net.nets import net

INPUTS = """
layer { name: "data" type: "Input" top: "data" top: "other"
        input_param { shape { dim: 3 dim: 4 dim: 9 dim: 7 }
                      shape { dim: %d dim: 4 dim: 9 dim: 7 } } }
"""
LAYERS = """
layer { name: "c" type: "Convolution" bottom: "%s" top: "c"
        convolution_param { num_output: 4 kernel_size: %d pad: %d
                            weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "%s" bottom: "%s" top: "sum" eltwise_param { %s } }
"""
ENGINES = ["torch", "onnxruntime", "onnxruntime-parts", "openvino", "openvino-parts"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if request.param != "torch":
        pytest.importorskip("onnx")
        pytest.importorskip(request.param.removesuffix("-parts"))
    return str(request.param)


@pytest.mark.parametrize(("kernel", "pad"), [(3, 1), (1, 0)])
def test_terms_of_other_shapes_are_refused(engine: str, kernel: int, pad: int) -> None:
    model = net(INPUTS % 3 + LAYERS % ("data", kernel, pad, "c", "other", ""), phase="test")
    model.optimize(engine)
    for shape in ((1, 4, 9, 7), (3, 4, 9, 1), (3, 1, 9, 7), (5, 4, 9, 7), (3, 4, 11, 7)):
        with pytest.raises(LayerError, match=r"layer 'sum' \(Eltwise\): its bottoms are 3x4x9x7, "):
            model.forward(data=torch.randn(3, 4, 9, 7), other=torch.randn(shape))
    assert_same(model, (5, 4, 8, 6), (5, 4, 8, 6))


@pytest.mark.parametrize("packs", [True, False])
def test_terms_in_other_kernels(packs: bool) -> None:
    model = net(INPUTS % 3 + LAYERS % ("data", 3, 1, "c", "other", ""), phase="test")
    model.optimize("torch", pack=packs, channels_last=False)
    with pytest.raises(LayerError, match="layer 'sum'"):
        model.forward(data=torch.randn(3, 4, 9, 7), other=torch.randn(1, 4, 9, 7))


def test_terms_of_a_convolution_in_winograds_way() -> None:
    text = INPUTS % 3 + LAYERS % ("data", 3, 1, "c", "other", "")
    text = text.replace("dim: 4", "dim: 160").replace("num_output: 4", "num_output: 160")
    model = net(text.replace("dim: 9 dim: 7", "dim: 24 dim: 20"), phase="test")
    made = model.optimize("torch")
    assert made is not None
    assert any("of 3x3 in Winograd's way" in line for line in made.lines)
    with pytest.raises(LayerError, match="layer 'sum'"):
        model.forward(data=torch.randn(3, 160, 24, 20), other=torch.randn(1, 160, 24, 20))


@pytest.mark.parametrize(("first", "second"), [("c", "other"), ("data", "c")])
def test_one_sample_that_counts_for_all(engine: str, first: str, second: str) -> None:
    """``allow_single_batch_input`` of MyCaffe."""
    bottom = "data" if first == "c" else "other"
    settings = "allow_single_batch_input: true"
    layers = LAYERS % (bottom, 3, 1, first, second, settings)
    model = net(INPUTS % 1 + layers, phase="test")
    model.optimize(engine)
    assert_same(model, (3, 4, 9, 7), (1, 4, 9, 7))


def assert_same(model: Net, *shapes: tuple[int, ...]) -> None:
    values = {n: torch.randn(s) for n, s in zip(("data", "other"), shapes, strict=True)}
    found = model.forward(**values)["sum"]
    model.optimize(None)
    torch.testing.assert_close(found, model.forward(**values)["sum"].detach(), rtol=1e-5, atol=1e-5)
