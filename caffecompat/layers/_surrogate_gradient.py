"""Values whose gradient is not their derivative, where Caffe's backward pass differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """The numbers of ``value`` with the gradient of ``surrogate`` (both of one shape, finite)."""
    return value.detach() + (surrogate - surrogate.detach())
