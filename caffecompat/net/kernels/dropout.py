"""Dropout whose mask is never stored: the backward pass computes it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffecompat.layers._counter_rng import Noise, threshold_of
from caffecompat.net.kernels.launching import OPTIONS, launching
from caffecompat.net.kernels.memory_format import dense, fits_a_grid, is_channels_last

_BLOCK = 1024


@dataclass(frozen=True)
class DropoutSettings:
    """What a dropout layer does to a blob.

    Attributes:
        noise: of the layer.
        probability: that an element is kept.
        scale: by which kept elements are multiplied.
        kernel: whether the Triton kernel computes it.
    """

    noise: Noise
    probability: float
    scale: float
    kernel: bool


def dropout(x: Tensor, drop: DropoutSettings) -> Tensor:
    """x * scale at the elements that the noise keeps, else x * 0, in the type of ``x``.

    It is bit for bit what the Dropout layer computes, and so is its gradient.
    """
    result: Tensor = _Dropout.apply(x, drop.noise.position, drop)
    return result


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, position: Tensor, drop: DropoutSettings) -> Tensor:
        ctx.drop = drop
        # The net changes its tensor at the next pass, which may begin before the backward pass.
        ctx.save_for_backward(position.clone())
        return _multiplied(x, position, drop)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (position,) = ctx.saved_tensors
        return _multiplied(gradient, position, ctx.drop), None, None


def _multiplied(x: Tensor, position: Tensor, drop: DropoutSettings) -> Tensor:
    if drop.kernel and fits_a_grid(x):
        return _launch(dense(x), position, drop)
    return dropped(x, position, drop)


def dropped(x: Tensor, position: Tensor, drop: DropoutSettings) -> Tensor:
    """The same in torch operators, without a gradient."""
    keep = drop.noise.keep(x, drop.probability, position).to(x.dtype)
    return x * keep.mul_(drop.scale)


def _launch(x: Tensor, position: Tensor, drop: DropoutSettings) -> Tensor:
    import triton

    from caffecompat.net.kernels.triton_code import dropout as code

    y = torch.empty_like(x)
    samples = x.shape[0] if x.dim() else 1
    per_sample = x.numel() // samples
    last = is_channels_last(x)
    # Rounded as torch rounds a mask of this type.
    factor = torch.ones((), dtype=x.dtype).mul_(drop.scale).item()
    with launching("dropout", x):
        code.dropout[(triton.cdiv(per_sample, _BLOCK), samples)](
            *(x, y, position, drop.noise.key),
            *drop.noise.range_of(samples),
            *(per_sample, x.shape[1] if last else 1),
            threshold_of(drop.probability),
            factor,
            CHANNELS_LAST=last,
            BLOCK=_BLOCK,
            **OPTIONS,
        )
    return y
