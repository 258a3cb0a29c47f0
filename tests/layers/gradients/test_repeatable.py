"""Gradients that GPUs compute otherwise than torch, beside torch's on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from caffecompat.layers._repeatable_gradients import (
    gathered,
    maximum_in_3d,
    repeatable_gathering,
    repeatable_maximum,
    repeatable_resizing,
    resized,
)


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def check(x: torch.Tensor, ours: Any, expected: Any) -> None:
    """Values and gradients of both functions of ``x``."""
    x = x.requires_grad_()
    found, wanted = ours(x), expected(x)
    assert torch.equal(found, wanted)
    weights = drawn(*found.shape, seed=2)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    (other,) = torch.autograd.grad((wanted * weights).sum(), x)
    torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize(
    ("axis", "shape"), [(0, (7, 3, 2)), (1, (4, 9, 2)), (2, (3, 1, 8)), (-1, (4, 3, 5))]
)
def test_gathering(axis: int, shape: tuple[int, ...]) -> None:
    """Places that repeat, and an index that does not cover all of the other axes."""
    x = drawn(4, 3, 5)
    generator = torch.Generator().manual_seed(3)
    index = torch.randint(0, x.shape[axis], shape, generator=generator)
    check(x, lambda v: repeatable_gathering()(v, axis, index), lambda v: v.gather(axis, index))
    assert torch.equal(gathered(x, axis, index), x.gather(axis, index))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [(9, 4), (2, 11), (1, 1), (5, 7)])
def test_resizing(size: tuple[int, int], aligned: bool) -> None:
    def by_torch(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=aligned)

    for plane in ((5, 7), (1, 6)):
        x = drawn(2, 3, *plane)
        check(x, lambda v: repeatable_resizing()(v, size, aligned), by_torch)
        assert torch.equal(resized(x, size, aligned), by_torch(x))


def test_the_gradient_of_a_resizing_in_16_bits() -> None:
    """Shares of elements keep their precision."""
    x = drawn(1, 2, 3, 5).bfloat16().requires_grad_()
    weights = drawn(1, 2, 7, 9, seed=2).bfloat16()
    (found,) = torch.autograd.grad(repeatable_resizing()(x, (7, 9), True), x, weights)
    whole = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(resized(whole, (7, 9), True), whole, weights.double())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0.005, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [
        ((2, 2, 2), (2, 2, 2), (1, 1, 1)),
        ((3, 2, 3), (1, 2, 1), (1, 1, 1)),
        ((2, 2, 3), (1,) * 3, (2, 1, 1)),
    ],
)
def test_maxima_in_3d(
    kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> None:
    def by_torch(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool3d(x, kernel, stride, dilation=dilation)

    x = drawn(2, 3, 5, 4, 6)
    check(x, lambda v: repeatable_maximum()(v, kernel, stride, dilation), by_torch)
    assert torch.equal(maximum_in_3d(x, kernel, stride, dilation), by_torch(x))
