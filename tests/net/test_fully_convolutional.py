"""An InnerProduct layer refuses inputs of another size, and what its message advises works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import text_format

from caffecompat.errors import LayerError
from caffecompat.net import Net
from caffecompat.proto import schema

INPUT = (
    'layer { name: "x" type: "Input" top: "x" '
    "input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }"
)
FIXED = (
    INPUT + 'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { '
    'num_output: 5 weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } } }'
)
CONVOLUTIONAL = (
    INPUT + 'layer { name: "fc-conv" type: "Convolution" bottom: "x" top: "y" '
    "convolution_param { num_output: 5 kernel_size: 4 } }"
)


def net(text: str) -> Any:
    return Net(text_format.Parse(text, schema.new("NetParameter")))


def test_the_advice_about_another_input_size_can_be_followed() -> None:
    old = net(FIXED)
    with pytest.raises(LayerError, match=r"'Fully convolutional nets' in docs/python\.md"):
        old.forward(x=torch.zeros(1, 3, 6, 6))
    page = Path(__file__).resolve().parents[2] / "docs" / "python.md"
    assert "## Fully convolutional nets" in page.read_text()
    new = net(CONVOLUTIONAL)
    with torch.no_grad():
        for value, values in zip(new.params["fc-conv"], old.params["fc"], strict=True):
            value.copy_(values.view_as(value))
    x = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    scores = new.forward(x=x)["y"]
    assert scores.shape == (1, 5, 3, 3)
    expected = old.forward(x=x[:, :, 1:5, 2:6].contiguous())["y"]
    assert torch.allclose(scores[:, :, 1, 2], expected, atol=1e-5)
