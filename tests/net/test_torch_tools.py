"""Nets in the hands of torch's own tools: transforms, tracing, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


GATED = ONE_INPUT.replace(
    'layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }',
    """
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "gate" type: "Sigmoid" bottom: "conv1" top: "gate" }
layer { name: "most" type: "Clip" bottom: "conv1" top: "most" clip_param { min: -0.5 max: 0.5 } }
layer { name: "relu1" type: "Eltwise" bottom: "gate" bottom: "most" top: "max"
        eltwise_param { operation: MAX } }
""",
).replace('bottom: "conv1" top: "pool1"', 'bottom: "max" top: "pool1"')


@pytest.mark.parametrize("text", [ONE_INPUT, GATED])
def test_gradients_by_transforms(text: str) -> None:
    model = net(text + "force_backward: true")
    images = IMAGES.clone().requires_grad_()

    def score(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(images).square().sum()
        return found

    (expected,) = torch.autograd.grad(score(images), images)
    torch.testing.assert_close(torch.func.grad(score)(IMAGES), expected)
    pulled: Any = torch.func.vjp(model, IMAGES)
    found, pull = pulled
    torch.testing.assert_close(pull(2 * found)[0], expected)
    each = torch.func.vmap(torch.func.grad(lambda image: score(image[None])))(IMAGES)
    torch.testing.assert_close(each, expected)
    jacobian = torch.func.jacrev(model)(IMAGES)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(model, IMAGES))
    assert jacobian.shape == (3, 6, *IMAGES.shape)


def test_gradients_of_parameters_by_a_transform() -> None:
    model = net(ONE_INPUT)
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def score(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = torch.func.functional_call(model, parameters, (IMAGES,))
        return found.square().sum()

    found = torch.func.grad(score)(parameters)
    model(IMAGES).square().sum().backward()
    for name, value in model.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(found[name], value.grad)


def test_a_pass_in_a_transform_leaves_the_net_as_it_was() -> None:
    model = net(ONE_INPUT)
    model(IMAGES)
    names = list(model.blobs)
    before = [model.blobs[name].data.clone() for name in names]
    features = torch.func.vmap(lambda image: model.forward(data=image[None], blobs=["fc"])["fc"])
    other = features(2 * IMAGES)
    for name, value in zip(names, before, strict=True):
        torch.testing.assert_close(model.blobs[name].data, value)
    torch.testing.assert_close(model.forward()["prob"], model(IMAGES))
    torch.testing.assert_close(other[:, 0], model.forward(data=2 * IMAGES, blobs=["fc"])["fc"])
    model.backward(prob=torch.ones(3, 6))


def test_transforms_of_an_optimized_net() -> None:
    """They need gradients, which optimized passes do not have."""
    model = net(ONE_INPUT)
    expected = torch.func.grad(lambda x: model(x)[:, 1].sum())(IMAGES)
    model.optimize("torch")
    torch.testing.assert_close(torch.func.grad(lambda x: model(x)[:, 1].sum())(IMAGES), expected)
    each = torch.func.vmap(lambda image: model.forward(data=image[None])["prob"])(IMAGES)
    torch.testing.assert_close(each[:, 0], model(IMAGES))


def test_statistics_in_a_transform() -> None:
    # Without the loss, whose gradient is its own.
    before, _, after = GATED.partition('layer { name: "loss"')
    prob = after[after.index('layer { name: "prob"') :].replace("include { phase: TEST }", "")
    model = net(before + prob, phase="train")
    with pytest.raises(LayerError) as caught:
        torch.func.grad(lambda images: model(images).sum())(IMAGES)
    assert str(caught.value) == (
        "layer 'bn1' (BatchNorm): torch.func cannot transform a pass that changes its statistics; "
        "build the net with phase='test', or use torch.autograd.grad"
    )
    tested = net(GATED, phase="test")
    torch.func.grad(lambda images: tested(images).sum())(IMAGES)


LSTM = """
layer { name: "data" type: "Input" top: "x" top: "cont"
        input_param { shape { dim: 5 dim: 2 dim: 3 } shape { dim: 5 dim: 2 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h"
        recurrent_param { num_output: 4 weight_filler { type: "xavier" } } }
"""


def test_the_state_of_a_recurrent_layer_in_a_transform() -> None:
    model, plain = net(LSTM), net(LSTM)
    x, cont = torch.randn(5, 2, 3), torch.ones(5, 2)
    own = x.clone().requires_grad_()
    first = plain(own, cont)
    (expected,) = torch.autograd.grad(first.square().sum(), own)
    found = torch.func.grad(lambda x: model(x, cont).square().sum())(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model(x, cont), first)


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
