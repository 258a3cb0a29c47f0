"""The base class of Correlation and Correlation1D: how well patches of two maps match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape

if TYPE_CHECKING:
    from torch import Tensor


class BaseCorrelation(Layer):
    """The base class: settings, padding and the mean over a patch.

    Bottoms: two maps (N, C, H, W) of one shape; ``pad`` zeros surround them. Top channel k is, at
    each position, the mean over C and a ``kernel_size`` x ``kernel_size`` patch of the product (or
    of the absolute difference for SUBTRACT) of the first map and the second one, moved by the k-th
    displacement. Displacements are multiples of ``stride_2`` up to ``max_displacement``; positions
    are ``stride_1`` apart and stay max_displacement away from the border. ``do_abs`` has no effect,
    as in the original.
    """

    bottoms = exactly(2)
    in_place = False
    param_fields = ("correlation_param",)
    fork_fields = ("correlation_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.correlation_param
        self.check(
            p.HasField("kernel_size") and p.kernel_size % 2 == 1,
            f"kernel_size is {p.kernel_size}, it must be given and odd",
        )
        self.check(p.HasField("max_displacement"), "max_displacement is missing")
        self.check(p.stride_1 > 0 and p.stride_2 > 0, "stride_1 and stride_2 must be positive")
        self.kernel, self.reach, self.pad = p.kernel_size, p.max_displacement, p.pad
        self.step, self.stride = p.stride_2, p.stride_1
        self.subtract = p.correlation_type == p.SUBTRACT
        self.radius = p.max_displacement // p.stride_2
        self.single = p.single_direction
        self.check(
            self.single in (-1, 0, 1),
            f"single_direction is {self.single}, it must be -1 (left), 0 or 1 (right)",
        )

    def check_bottoms(self, a: Tensor, b: Tensor) -> None:
        self.check(
            a.dim() == 4 and a.shape == b.shape,
            f"its bottoms are {format_shape(a.shape)} and {format_shape(b.shape)}; they must have "
            "one shape (N, C, H, W)",
        )

    def check_extents(self, height: int, width: int, x: Tensor) -> None:
        self.check(
            height > 0 and width > 0,
            f"kernel and displacements do not fit into the bottom {format_shape(x.shape)} with pad "
            f"{self.pad}; the input is too small",
        )

    def matches(self, a: Tensor, b: Tensor) -> Tensor:
        """The means for one displacement, of maps that fit it: (N, 1, H', W')."""
        import torch.nn.functional as F

        both = (a - b).abs() if self.subtract else a * b
        return F.avg_pool2d(both.mean(1, keepdim=True), self.kernel, self.stride)
