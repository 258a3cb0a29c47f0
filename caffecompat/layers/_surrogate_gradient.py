"""Values with another gradient than their derivative, as in some of Caffe's backward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    """The values of ``value`` with the gradient of ``surrogate`` (equal shapes, finite)."""
    return value.detach() + (surrogate - surrogate.detach())
