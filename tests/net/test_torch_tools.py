"""Nets in the hands of torch's own tools: transforms, tracing, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.errors import LayerError, NetError
from tests.net.nets import CLASSIFIER, net

ONE_INPUT = CLASSIFIER.replace('top: "data" top: "label"', 'top: "data"').replace(
    " shape { dim: 3 } }", " }"
)
IMAGES = torch.randn(3, 2, 7, 5, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([1.0, 5.0, 0.0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("text", [CLASSIFIER, ONE_INPUT])
def test_the_tracing_export_to_onnx(text: str, tmp_path: Path) -> None:
    """It gives the defaults of keywords by position."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    model = net(text)
    given = (IMAGES, LABELS)[: len(model.inputs)]
    path = tmp_path / "net.onnx"
    torch.onnx.export(model, given, path, dynamo=False, input_names=model.inputs)
    loaded = onnx.load(path)
    assert [value.name for value in loaded.graph.input] == model.inputs
    feeds = {name: value.numpy() for name, value in zip(model.inputs, given, strict=True)}
    found = ReferenceEvaluator(loaded).run(None, feeds)
    expected = model.forward(**dict(zip(model.inputs, given, strict=True)))
    assert len(found) == len(model.outputs)
    for value, name in zip(found, model.outputs, strict=True):
        np.testing.assert_allclose(value, expected[name].detach(), rtol=1e-5, atol=1e-6)


def test_too_many_values_are_still_refused() -> None:
    model = net(CLASSIFIER)
    with pytest.raises(NetError, match="3 inputs were given, the net takes 2: data, label"):
        model(IMAGES, LABELS, LABELS)
    with pytest.raises(NetError, match="input 'label'"):
        model(IMAGES, None)


def loss(model: Net, images: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.forward(data=images, label=LABELS)["loss"]
    return found


def test_layers_with_a_gradient_of_their_own_in_a_transform() -> None:
    model = net(CLASSIFIER, phase="train")
    with pytest.raises(LayerError) as caught:
        torch.func.grad(lambda images: loss(model, images))(IMAGES)
    assert str(caught.value) == (
        "layer 'loss' (SoftmaxWithLoss): torch.func cannot transform it, since it computes its "
        "gradient itself; use torch.autograd.grad, or backward() of the net"
    )
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model, images), images)
    model.forward(data=images, label=LABELS)
    model.backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad, gradient)


def test_other_tools() -> None:
    model = net(ONE_INPUT)
    expected = model(IMAGES)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    with torch.no_grad():
        torch.testing.assert_close(
            torch.func.functional_call(model, parameters, (IMAGES,)), expected
        )
        both = torch.func.vmap(model)(torch.stack([IMAGES, 2 * IMAGES]))
    torch.testing.assert_close(both[0], expected)
    torch.testing.assert_close(both[1], model(2 * IMAGES))
    exported = torch.export.export(model, (IMAGES,)).module()
    torch.testing.assert_close(exported(IMAGES), expected)
