"""Online hard example mining of R-FCN against loops over regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, run


def smooth(d: float) -> float:
    return 0.5 * d * d if abs(d) < 1 else abs(d) - 0.5


@pytest.mark.parametrize(
    ("mode", "divisor"),
    [
        ("FULL", 12),
        ("VALID", 12),
        ("BATCH_SIZE", 2),
        ("NONE", 1),
        ("PRE_FIXED pre_fixed_normalizer: 5", 5),
    ],
)
def test_smooth_l1_loss(mode: str, divisor: int) -> None:
    shape = (2, 3, 2, 3)
    x, target = distinct(shape, 1).requires_grad_(True), distinct(shape, 2)
    weights = torch.tensor([0.0, 1, 2], dtype=torch.float64).repeat(12).reshape(shape)
    text = f"loss_param {{ normalization: {mode} }}"
    loss, regions = run("SmoothL1LossOHEM", text, x, target, weights, tops=2)
    difference = (weights * (x - target)).detach()
    errors = difference.clone().apply_(smooth)
    assert float(loss.detach()) == pytest.approx(float(errors.sum()) / divisor)
    assert regions.shape == (2, 1, 2, 3)
    np.testing.assert_allclose(regions, errors.sum(1, keepdim=True))
    loss.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, difference.clamp(-1, 1) / divisor)


def test_losses_of_labels() -> None:
    scores = distinct((4, 3), 1)
    labels = torch.tensor([2.0, 0, 1, 2], dtype=torch.float64)
    loss, shares, losses = run(
        "SoftmaxWithLossOHEM", "loss_param { ignore_label: 1 }", scores, labels, tops=3
    )
    expected = -torch.log_softmax(scores, 1)[range(4), labels.long()]
    expected[2] = 0
    np.testing.assert_allclose(losses, expected)
    np.testing.assert_allclose(shares, scores.softmax(1))
    assert float(loss) == pytest.approx(float(expected.sum()) / 3)


def test_regions_with_the_largest_losses_of_each_image() -> None:
    image = [0, 1, 0, 0, 1, 0]
    regions = torch.tensor([[n, 1.0, 2, 3, 4] for n in image])
    losses = torch.tensor([0.5, 3.0, 0.5, 0.9, 0.1, 0.2])
    labels = torch.tensor([1.0, 2, 3, 4, 5, 6])
    weights = torch.arange(1.0, 13).reshape(6, 2)
    chosen, kept = run(
        "BoxAnnotatorOHEM",
        "box_annotator_ohem_param { roi_per_img: 2 ignore_label: -7 }",
        *(regions, losses, labels, weights),
        tops=2,
    )
    assert chosen.flatten().tolist() == [1, 2, -7, 4, 5, -7]
    assert kept.shape == (6, 2, 1, 1)
    assert kept[:, 0, 0, 0].tolist() == [1, 3, 0, 7, 9, 0]


def test_numbers_of_regions_must_agree() -> None:
    with pytest.raises(LayerError, match="expected R x 5, R losses, R labels"):
        run(
            "BoxAnnotatorOHEM",
            "box_annotator_ohem_param { roi_per_img: 2 }",
            *(torch.zeros(3, 5), torch.zeros(2), torch.zeros(3), torch.zeros(3, 4)),
            tops=2,
        )
