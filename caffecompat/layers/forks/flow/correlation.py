"""Correlation and Correlation1D: how well patches of two maps match at displacements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register

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


@register("Correlation", fork="FlowNet")
class Correlation(BaseCorrelation):
    """The matches at all displacements (dy, dx), dy outer; see :class:`BaseCorrelation`.

    Top: ((2 r + 1)^2 channels, r = floor(max_displacement / stride_2)), with the extents
    ceil((H + 2 pad - 2 (max_displacement + (kernel_size - 1) / 2)) / stride_1), W alike.
    Source: FlowNet's Correlation layer.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        self.check_bottoms(a, b)
        border = 2 * (self.reach + (self.kernel - 1) // 2)
        height, width = (-(-(n + 2 * self.pad - border) // self.stride) for n in a.shape[2:])
        self.check_extents(height, width, a)
        a, b = F.pad(a, [self.pad] * 4), F.pad(b, [self.pad] * 4)
        rows = (height - 1) * self.stride + self.kernel
        columns = (width - 1) * self.stride + self.kernel
        first = a.narrow(2, self.reach, rows).narrow(3, self.reach, columns)
        moves = range(-self.radius * self.step, self.radius * self.step + 1, self.step)
        found = [
            self.matches(
                first, b.narrow(2, self.reach + dy, rows).narrow(3, self.reach + dx, columns)
            )
            for dy in moves
            for dx in moves
        ]
        return torch.cat(found, 1)


@register("Correlation1D", fork="FlowNet")
class Correlation1D(BaseCorrelation):
    """The matches at horizontal displacements; see :class:`BaseCorrelation`.

    Only the sides are padded, and positions stay max_displacement away from the left and right
    border alone. Top: 2 r + 1 channels, r = floor(max_displacement / stride_2), or r + 1 with
    ``single_direction`` -1 (dx from -(r + 1) to -1 times stride_2) or 1 (dx from 0 to r). What lies
    outside of the padded map at -(r + 1) counts as 0; the original reads the end of the row above.
    Source: FlowNet's Correlation1D layer.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        self.check_bottoms(a, b)
        edge = (self.kernel - 1) // 2
        height = -(-(a.shape[2] - 2 * edge) // self.stride)
        width = -(-(a.shape[3] + 2 * self.pad - 2 * (self.reach + edge)) // self.stride)
        self.check_extents(height, width, a)
        rows = (height - 1) * self.stride + self.kernel
        columns = (width - 1) * self.stride + self.kernel
        more = self.step if self.single == -1 else 0
        a = F.pad(a, [self.pad, self.pad])
        b = F.pad(b, [self.pad + more, self.pad])
        first = a.narrow(2, 0, rows).narrow(3, self.reach, columns)
        start = {0: -self.radius, 1: 0, -1: -self.radius - 1}[self.single]
        count = self.radius + 1 if self.single else 2 * self.radius + 1
        found = [
            self.matches(
                first,
                b.narrow(2, 0, rows).narrow(
                    3, self.reach + more + (start + k) * self.step, columns
                ),
            )
            for k in range(count)
        ]
        return torch.cat(found, 1)
