"""The stepper computes what the compiled program computes."""

from __future__ import annotations

import numpy as np
import torch

from caffecompat.net import Stepper
from tests.net.nets import CLASSIFIER, net

BRANCHES = """
force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" loss_weight: 0.25
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "b" type: "TanH" bottom: "a" top: "b" }
layer { name: "c" type: "Eltwise" bottom: "a" bottom: "b" bottom: "x" top: "c" }
layer { name: "d" type: "Dropout" bottom: "c" top: "c" }
layer { name: "l" type: "Reduction" bottom: "c" top: "l" loss_weight: 2
        reduction_param { operation: SUMSQ } }
"""


def compare(text: str, **inputs: np.ndarray) -> None:
    whole, stepped = (net(text, phase="train", seed=5) for _ in range(2))
    whole.forward(**inputs)
    whole.backward()
    for name, value in inputs.items():
        stepped.blobs[name].data[...] = torch.from_numpy(value)
    stepper = Stepper(stepped)
    stepper.begin(0)
    for i in range(len(stepped.layers)):
        stepper.forward_layer(i)
    for i in reversed(range(len(stepped.layers))):
        stepper.backward_layer(i)
    for version, blob in stepper.values.items():
        torch.testing.assert_close(blob, whole.value_of(version).detach())
    for name in inputs:
        version = whole._passes.inputs.version(name)
        if version in whole._passes.gradient_inputs:
            torch.testing.assert_close(stepper.gradients[version], whole.blobs[name].diff)
    for ours, theirs in zip(whole.learnable, stepped.learnable, strict=True):
        torch.testing.assert_close(ours.tensor.grad, theirs.tensor.grad)
    assert whole._passes.loss is not None
    np.testing.assert_allclose(stepper.loss, float(whole.loss.detach()), rtol=1e-6)


def test_classifier() -> None:
    rng = np.random.default_rng(2)
    compare(
        CLASSIFIER,
        data=rng.standard_normal((3, 2, 7, 5)).astype(np.float32),
        label=np.array([4, 0, 2], np.float32),
    )


def test_branches_losses_and_dropout() -> None:
    rng = np.random.default_rng(3)
    compare(BRANCHES, x=rng.standard_normal((2, 3, 5, 4)).astype(np.float32))
