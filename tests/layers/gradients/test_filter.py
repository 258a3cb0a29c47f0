"""Selection of rows, as of BatchReindex: the gradient that is the same in every run on a GPU."""

from __future__ import annotations

import torch

from caffecompat.layers._repeatable_gradients import repeatable_selection


def test_the_repeatable_gradient_is_that_of_index_select() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((5, 2, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([4, 0, 0, 2, 4, 0])
    weights = torch.randn((6, 2, 3), generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad((x.index_select(0, index) * weights).sum(), x)
    found = repeatable_selection()(x, 0, index)
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
        repeatable_selection()(x, 0, torch.tensor([0, 2, 3])), x, grad_outputs=weights
    )
    expected = torch.zeros((4, 3))
    expected[0], expected[2], expected[3] = weights
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0, equal_nan=True)


def test_along_another_axis() -> None:
    x = torch.randn((2, 3, 4, 5), dtype=torch.float64).requires_grad_()
    index = torch.tensor([3, 0, 0, 3, 1])
    weights = torch.randn((2, 3, 5, 5), dtype=torch.float64)
    (expected,) = torch.autograd.grad((x.index_select(2, index) * weights).sum(), x)
    (found,) = torch.autograd.grad((repeatable_selection()(x, 2, index) * weights).sum(), x)
    torch.testing.assert_close(found, expected)
