"""BatchReindex: the gradient that is the same in every run, which GPUs use."""

from __future__ import annotations

import torch

from caffecompat.layers.filter import _repeatable_items


def test_the_repeatable_gradient_is_that_of_index_select() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((5, 2, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([4, 0, 0, 2, 4, 0])
    weights = torch.randn((6, 2, 3), generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad((x.index_select(0, index) * weights).sum(), x)
    found = _repeatable_items()(x, index)
    assert torch.equal(found, x[index])
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    torch.testing.assert_close(gradient, expected)
    assert gradient[1].abs().sum() == 0


def test_nan_in_the_gradient_of_one_copy_stays_with_its_item() -> None:
    x = torch.ones((4, 3), requires_grad=True)
    weights = torch.ones((3, 3))
    weights[1] = float("nan")
    weights[2, 1] = float("inf")
    (gradient,) = torch.autograd.grad(
        _repeatable_items()(x, torch.tensor([0, 2, 3])), x, grad_outputs=weights
    )
    expected = torch.zeros((4, 3))
    expected[0], expected[2], expected[3] = weights
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0, equal_nan=True)
