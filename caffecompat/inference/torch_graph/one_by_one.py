"""1x1 convolutions over channels-last blobs, which are one matrix product."""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from caffecompat.inference.torch_graph.weighted import Weighted
from caffecompat.layers import Shape
from caffecompat.layers.convolution import Convolution

# oneDNN adds bias and activation to its results while they are in the cache, but a call costs it
# as much as some million products. Larger tops than this do not stay in the cache.
MOST_VALUES = 100_000


def saves_time(weighted: Weighted, shape: Shape | None, top: Shape | None) -> bool:
    """Whether a convolution is faster so, for a bottom and a top of these shapes."""
    layer = weighted.layer
    if not isinstance(layer, Convolution) or shape is None or top is None or weighted.adds:
        return False
    g = layer.geometry
    if g.kernel != (1, 1) or g.pad != (0, 0) or g.sides is not None or layer.group > 1:
        return False
    single = weighted.weight.dtype == torch.float32
    return single and len(shape) == 4 and prod(top) <= MOST_VALUES


class OneByOneConvolution(nn.Module):
    """activation(W x + b) at each position, or at each of a stride, in single precision."""

    def __init__(self, weighted: Weighted) -> None:
        super().__init__()
        layer = weighted.layer
        assert isinstance(layer, Convolution)
        self._layer = layer
        self._weight = weighted.weight.reshape(weighted.weight.shape[:2]).t().contiguous()
        self._bias = weighted.bias
        self._stride = layer.geometry.stride
        self._activation = weighted.activation
        self._seen: torch.Size | None = None
        self.names = weighted.names

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape != self._seen:
            self._layer._check_shapes([x.shape])
            self._seen = x.shape
        rows = x.permute(0, 2, 3, 1)
        if self._stride != (1, 1):
            rows = rows[:, :: self._stride[0], :: self._stride[1]]
        extents = rows.shape[:3]
        flat = rows.reshape(-1, rows.shape[3])
        if self._bias is None:
            y = torch.mm(flat, self._weight)
        else:
            y = torch.addmm(self._bias, flat, self._weight)
        if self._activation is not None:
            y = self._activation.in_place(y)
        return y.view(*extents, -1).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return ", ".join(self.names)
