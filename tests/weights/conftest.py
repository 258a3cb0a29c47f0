"""Layers of several types, with and without parameters."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat.weights import LayerWeights, Weights


@pytest.fixture
def weights() -> Weights:
    rng = np.random.default_rng(4)
    return Weights(
        [
            LayerWeights(
                "conv.1",
                "Convolution",
                [rng.normal(size=(4, 3, 2, 5)).astype("f4"), rng.normal(size=4).astype("f4")],
            ),
            LayerWeights("relu", "ReLU"),
            LayerWeights("bn", "BatchNorm", [np.full(n, n, np.float32) for n in (4, 4, 1)]),
            LayerWeights("scalar", "T", [np.array(2.5, np.float32)]),
            LayerWeights("none", "T", [np.zeros((0, 3), np.float32)]),
            LayerWeights("special", "T", [np.array([np.nan, -0.0, np.inf, 1e-45], np.float32)]),
        ],
        "net",
    )
