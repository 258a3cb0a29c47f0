"""NVCaffe's BatchNorm with five blobs."""

from __future__ import annotations

import numpy as np
import torch

from tests.layers.messages import distinct
from tests.layers.single import build, call
from tests.net.nets import message, net

TEXT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 2 dim: 2 } } }
layer { name: "n" type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { %s } }
"""
EPS = 1e-5
SETTINGS = "scale_filler { value: 2 } bias_filler { value: 1 } moving_average_fraction: 0.75"


def test_blobs_and_their_initial_values() -> None:
    built = net(TEXT % SETTINGS, phase="test")
    assert [blob.data.tolist() for blob in built.params["n"]] == [
        [0] * 3,
        [0] * 3,
        [1],
        [2] * 3,
        [1] * 3,
    ]
    assert [blob.data.tolist() for blob in net(TEXT % "scale_bias: true").params["n"]][3:] == [
        [1] * 3,
        [0] * 3,
    ]
    assert len(net(TEXT % "").params["n"]) == 3
    assert len(net(TEXT % "scale_bias: false").params["n"]) == 3


def test_values_and_statistics() -> None:
    definition = message(TEXT % SETTINGS).layer[1]
    definition.type = "BatchNorm (NVCaffe)"
    first, second = distinct((4, 3, 2, 2), seed=1), distinct((4, 3, 2, 2), seed=2)
    layer = build(definition, [first.shape])
    blobs = [
        torch.full(s.shape, v, dtype=torch.float64)
        for s, v in zip(layer.specs, (0, 0, 1, 2, 1), strict=True)
    ]
    mean, variance = np.zeros(3), np.zeros(3)
    for number, x in enumerate((first, second)):
        (y,) = call(layer, [x], blobs)
        batch = x.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
        expected = (x.numpy() - batch.mean(1)[:, None, None]) / np.sqrt(batch.var(1) + EPS)[
            :, None, None
        ] * 2 + 1
        np.testing.assert_allclose(y, expected, atol=1e-9)
        share = 1 if number == 0 else 0.25
        mean = (1 - share) * mean + share * batch.mean(1)
        variance = (1 - share) * variance + share * batch.var(1) * 16 / 15
    np.testing.assert_allclose(blobs[0], mean)
    np.testing.assert_allclose(blobs[1], variance)
    assert blobs[2].item() == 1
    tested = build(definition, [first.shape], "TEST")
    (y,) = call(tested, [first], blobs)
    expected = (first.numpy() - mean[:, None, None]) / np.sqrt(variance + EPS)[
        :, None, None
    ] * 2 + 1
    np.testing.assert_allclose(y, expected, atol=1e-9)
