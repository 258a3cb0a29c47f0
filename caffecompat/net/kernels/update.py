"""The update of SGD with momentum, whose rate and whose flag to skip it are on the device.

A CUDA graph that holds it reads both when it is played back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffecompat.net.kernels.launching import OPTIONS, launching
from caffecompat.net.kernels.memory_format import is_dense

_BLOCK = 1024


@dataclass(frozen=True)
class Momentum:
    """The constants of an update.

    Attributes:
        rate: 0-axis fp32 tensor.
        skip: a tensor of one fp32 number; if it is not 0, nothing changes. None to update always.
        momentum, decay: of the history and of the values.
        kernel: whether the Triton kernel computes it.
    """

    rate: Tensor
    skip: Tensor | None
    momentum: float
    decay: float
    kernel: bool = False


def sgd_update(
    values: Sequence[Tensor],
    gradients: Sequence[Tensor],
    history: Sequence[Tensor],
    given: Momentum,
    copies: Sequence[Tensor | None] = (),
) -> None:
    """h = momentum h + rate (g + decay w); w = w - h, for lists of tensors.

    Values and history are fp32 and change in place; gradients are fp32, bf16 or fp16. ``copies``
    are those of the values in 16 bits, which change with them; None where there is none.
    """
    copies = copies or [None] * len(values)
    for value, gradient, velocity, copy in zip(values, gradients, history, copies, strict=True):
        same = value.stride() == velocity.stride() and is_dense(value)
        same = same and (copy is None or copy.stride() == value.stride())
        if given.kernel and same and value.numel():
            _launch(value, _as(gradient, value), velocity, given, copy)
        else:
            sgd_update_by_torch(value, gradient, velocity, given, copy)


def sgd_update_by_torch(
    value: Tensor, gradient: Tensor, velocity: Tensor, given: Momentum, copy: Tensor | None = None
) -> None:
    """:func:`sgd_update` of one tensor in torch operators."""
    _update_by_torch(value, gradient, velocity, given)
    if copy is not None:
        copy.copy_(value)


def _update_by_torch(value: Tensor, gradient: Tensor, velocity: Tensor, given: Momentum) -> None:
    change = (gradient.float() + value * given.decay) * given.rate
    new = velocity * given.momentum + change
    if given.skip is None:
        velocity.copy_(new)
        value.sub_(velocity)
        return
    updates = given.skip.reshape(()) == 0
    velocity.copy_(torch.where(updates, new, velocity))
    value.copy_(torch.where(updates, value - velocity, value))


def _as(gradient: Tensor, value: Tensor) -> Tensor:
    """The gradient in the memory order of the value; extents of 1 have any stride."""
    pairs = zip(gradient.stride(), value.stride(), value.shape, strict=True)
    if all(one == other for one, other, extent in pairs if extent > 1):
        return gradient
    return torch.empty_like(value, dtype=gradient.dtype).copy_(gradient)


def _launch(
    value: Tensor, gradient: Tensor, velocity: Tensor, given: Momentum, copy: Tensor | None
) -> None:
    import triton

    from caffecompat.net.kernels.triton_code import update as code

    size = value.numel()
    with launching("update", value):
        code.sgd_update[(triton.cdiv(size, _BLOCK),)](
            *(value, gradient, velocity, value if copy is None else copy, given.rate),
            given.rate if given.skip is None else given.skip,
            *(given.momentum, given.decay, size),
            SKIPS=given.skip is not None,
            COPIES=copy is not None,
            BLOCK=_BLOCK,
            **OPTIONS,
        )
