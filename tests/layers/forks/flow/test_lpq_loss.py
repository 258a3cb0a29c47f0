"""FlowNet's Lpq loss against a loop over positions; its episodes and settings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.forks.flow.references import (
    random_images,
)
from tests.layers.messages import made, run


@pytest.mark.parametrize("entries", [False, True])
@pytest.mark.parametrize("prescale", [False, True])
def test_lpq_loss(entries: bool, prescale: bool) -> None:
    a, b = random_images(2, 3, 4, 5), random_images(2, 3, 4, 5).flip(0)
    a[0, 1, 2, 3] = math.nan
    text = f"""lpq_loss_param {{ p: 1.5 q: 0.4 p_epsilon: 0.02 q_epsilon: 0.03
        l2_prescale_by_channels: {str(prescale).lower()}
        normalize_by_num_entries: {str(entries).lower()} }}"""
    (loss,) = run("LpqLoss", text, a, b)
    total = 0.0
    for n, i, j in np.ndindex(2, 4, 5):
        inner = 0.0
        for c in range(3):
            d = float(a[n, c, i, j] - b[n, c, i, j])
            inner += ((0 if math.isnan(d) else abs(d)) + 0.02) ** 1.5
        total += (inner / (3 if prescale else 1) + 0.03) ** 0.4
    np.testing.assert_allclose(float(loss), total / (119 / 3 if entries else 2), rtol=1e-6)


def test_lpq_episodes() -> None:
    text = """lpq_loss_param { pq_episode_starts_at_iter: 0 pq_episode_starts_at_iter: 3
        p: 2 p: 1 q: 1 q: 2 }"""
    layer = made("LpqLoss", text, (1, 2, 1, 1))
    x = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)
    found = []
    for passed in (0, 2, 3):
        layer.noise.position.fill_(passed)
        found.append(float(layer.forward(x)))
    np.testing.assert_allclose(found, [10.01, 10.01, 4.01**2], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "p and q are missing"),
        ("p: 1", "as many"),
        ("p: 1 q: 1 pq_episode_starts_at_iter: 2", "start with 0"),
    ],
)
def test_wrong_lpq_settings(text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made("LpqLoss", f"lpq_loss_param {{ {text} }}", (1, 2, 3, 3))
