"""Gradients where an output is rounded to its bound, as BVLC Caffe 1.0 (CPU) computed them.

They are a rounding apart from zero. AdaGrad, RMSProp, AdaDelta and Adam divide gradients by their
size, so that a zero in the wrong place is a whole step of the training.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.layers.messages import run

X = [-20, -17, -3, 0, 3, 12, 16.5, 17, 17.2, 17.4, 20]
TARGETS = [0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1]
BELOW_1 = 5.9604645e-08  # 1 minus the number below it

SIGMOID = [2.0611537e-09, 4.1399375e-08, 0.045176659, 0.25, 0.045176655, 6.1392407e-06]
CROSS_ENTROPY = [2.0611537e-09, 4.1399375e-08, -0.95257413, -0.5, 0.95257413, -6.1392784e-06]


def gradient(type_name: str, text: str = "", targets: list[int] | None = None) -> np.ndarray:
    x = torch.tensor([X], requires_grad=True)
    bottoms = [x] if targets is None else [x, torch.tensor([targets], dtype=torch.float32)]
    (y,) = run(type_name, text, *bottoms)
    y.sum().backward()
    assert x.grad is not None
    return x.grad[0].numpy()


def test_sigmoid() -> None:
    wanted = [*SIGMOID, BELOW_1, BELOW_1, BELOW_1, 0, 0]
    np.testing.assert_allclose(gradient("Sigmoid"), wanted, rtol=2e-6)


@pytest.mark.parametrize("text", ["", "loss_param { ignore_label: 7 }"])
def test_sigmoid_cross_entropy_loss(text: str) -> None:
    wanted = [*CROSS_ENTROPY, -BELOW_1, -BELOW_1, -BELOW_1, 0, 0]
    found = gradient("SigmoidCrossEntropyLoss", text, TARGETS)
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_elu() -> None:
    found = gradient("ELU", "elu_param { alpha: 0.7 }")
    assert found[0] == 0
    np.testing.assert_allclose(found[1:], [BELOW_1, 0.034850955, 0.7, *[1] * 7], atol=7e-8)


@pytest.mark.parametrize("type_name", ["Sigmoid", "SigmoidCrossEntropyLoss"])
def test_in_double_precision_it_is_the_derivative(type_name: str) -> None:
    x = torch.tensor([X], dtype=torch.float64, requires_grad=True)
    rest = [] if type_name == "Sigmoid" else [torch.tensor([TARGETS], dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda x: run(type_name, "", x, *rest), (x,))
