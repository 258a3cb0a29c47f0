"""UNPOOLING: the unpooling of DeconvNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers._surrogate_gradient import with_gradient_of
from caffecompat.layers.forks.segmentation.resizing._unpool import put_at_mask

if TYPE_CHECKING:
    from torch import Tensor


@register("UNPOOLING", fork="DeconvNet")
class Unpooling(Layer):
    """(N, C, h, w) as (N, C, H, W); H and W are ``unpool_size``, or ``unpool_h`` and ``unpool_w``.

    ``unpool`` MAX puts each value into a plane of zeros: with a second bottom, the mask of a MAX
    pooling, at its index (row W + column), else at row i ``stride``, column j ``stride``, or the
    last ones. AVE and TILE add it to all pixels of its window (``kernel_size``, ``stride``), AVE
    divided by the number of pixels of the window. ``pad`` must be 0. The gradient of TILE is
    divided by that number, too, as in the original; that of a value that another one has replaced
    is that of its place. The type of old ``layers`` entries. Source: unpooling_layer.cpp of
    DeconvNet's Caffe.
    """

    bottoms = between(1, 2)
    in_place = False
    differentiable = (True, False)
    param_fields = ("unpooling_param",)
    fork_fields = ("unpooling_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.unpooling_param
        self.kernel = self._pair(p, "kernel_size", "kernel")
        self.size = self._pair(p, "unpool_size", "unpool")
        self.stride = (p.stride_h, p.stride_w) if p.HasField("stride_h") else (p.stride, p.stride)
        self.check(not (p.pad or p.pad_h or p.pad_w), "pad must be 0, as in DeconvNet's Caffe")
        self.check(
            min(*self.kernel, *self.size, *self.stride) > 0,
            "unpooling_param: kernel_size, stride and unpool_size must be positive",
        )
        self.method = {p.MAX: "MAX", p.AVE: "AVE", p.TILE: "TILE"}[p.unpool]
        self.check(
            self.method == "MAX" or len(bottoms) == 1,
            f"its second bottom, a mask, is for unpool: MAX, but it is {self.method}",
        )

    def _pair(self, p: Message, both: str, each: str) -> tuple[int, int]:
        """The extents of ``both``, or of ``each`` with _h and _w."""
        one = p.HasField(both)
        two = [p.HasField(f"{each}_{side}") for side in "hw"]
        self.check(
            one != any(two) and (one or all(two)),
            f"unpooling_param: give {both}, or {each}_h and {each}_w",
        )
        if one:
            return (getattr(p, both), getattr(p, both))
        return (getattr(p, f"{each}_h"), getattr(p, f"{each}_w"))

    def forward(self, x: Tensor, *masks: Tensor) -> Tensor:
        self.check(x.dim() == 4, f"the bottom is {format_shape(x.shape)}, expected N x C x H x W")
        if masks:
            return put_at_mask(self, x, masks[0], *self.size)
        if self.method == "MAX":
            return put_at_mask(self, x, self._first_places(x), *self.size)
        counts = self._window_sizes(x)
        tiled = self._spread(x / counts)
        return tiled if self.method == "AVE" else with_gradient_of(self._spread(x.detach()), tiled)

    def _first_places(self, x: Tensor) -> Tensor:
        import torch

        rows, columns = (
            (torch.arange(extent, device=x.device) * step).clamp(max=most - 1)
            for extent, step, most in zip(x.shape[2:], self.stride, self.size, strict=True)
        )
        return (rows[:, None] * self.size[1] + columns).expand(x.shape)

    def _window_sizes(self, x: Tensor) -> Tensor:
        """The number of pixels (h, w) of each window within the top; 1 where there is none."""
        import torch

        rows, columns = (
            (most - torch.arange(extent, device=x.device) * step).clamp(0, kernel)
            for extent, step, kernel, most in zip(
                x.shape[2:], self.stride, self.kernel, self.size, strict=True
            )
        )
        return (rows[:, None] * columns).clamp(min=1).to(x.dtype)

    def _spread(self, x: Tensor) -> Tensor:
        """Each value added to all pixels of its window."""
        import torch.nn.functional as F

        ones = x.new_ones(1, 1, *self.kernel)
        spread = F.conv_transpose2d(x.flatten(0, 1).unsqueeze(1), ones, stride=self.stride)
        missing = [most - e for most, e in zip(self.size, spread.shape[2:], strict=True)]
        spread = F.pad(spread, [0, missing[1], 0, missing[0]])
        return spread.squeeze(1).unflatten(0, x.shape[:2])
