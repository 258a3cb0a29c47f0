"""LOCAL: a convolution whose weights differ from position to position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("LOCAL", fork="Local Caffe")
class Local(Layer):
    """Locally connected: (N, C, H, W) becomes (N, num_output, H', W').

    H' = floor((H + 2 pad - kernel_size) / stride) + 1. Each output position has weights of its own.
    Parameters: weight (num_output, 1, C kernel_size^2, H' W') and bias (1, 1, num_output, H' W').
    The type of old ``layers`` entries. Source: the local_layer of public forks.
    """

    in_place = False
    parameters = ("weight", "bias")
    param_fields = ("local_param",)
    fork_fields = ("local_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p, bottom = message.local_param, bottoms[0]
        self.check(
            len(bottom) == 4,
            f"the bottom is {format_shape(bottom)}, it must have 4 axes (N, C, H, W)",
        )
        self.kernel, self.stride, self.pad = int(p.kernel_size), int(p.stride), int(p.pad)
        self.count = int(p.num_output)
        self.check(
            min(self.kernel, self.stride, self.count) > 0,
            "num_output, kernel_size and stride must be positive",
        )
        self.check(
            min(bottom[2:]) >= self.kernel,
            f"the bottom is {format_shape(bottom)}, smaller than kernel_size {self.kernel}",
        )
        self.bottom = tuple(bottom[1:])
        self.size = [(e + 2 * self.pad - self.kernel) // self.stride + 1 for e in bottom[2:]]
        places, length = self.size[0] * self.size[1], bottom[1] * self.kernel**2
        self.parameter("weight", (self.count, 1, length, places), p.weight_filler)
        if p.bias_term:
            self.parameter("bias", (1, 1, self.count, places), p.bias_filler)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        import torch
        import torch.nn.functional as F

        self.check(
            tuple(x.shape[1:]) == self.bottom,
            f"the bottom is {format_shape(x.shape)}, but the weights are for "
            f"{format_shape(self.bottom)} for each image; it cannot be resized",
        )
        columns = F.unfold(x, self.kernel, padding=self.pad, stride=self.stride)
        y = torch.einsum("nkp,mkp->nmp", columns, weight.squeeze(1))
        if bias is not None:
            y = y + bias[0]
        return y.unflatten(2, self.size)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        places = self.size[0] * self.size[1]
        return int(bottoms[0][0] * bottoms[0][1] * self.kernel**2 * self.count * places)
