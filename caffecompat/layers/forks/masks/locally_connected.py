"""LocallyConnected: the classifiers of a grid, interpolated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers.forks.masks._grid_classifiers import interpolated, read_grid

if TYPE_CHECKING:
    from torch import Tensor


@register("LocallyConnected", fork="SDS, hypercolumns")
class LocallyConnected(Layer):
    """Sigmoids of scores (N, M ``grid_size``^2, H, W), interpolated to (N, M, H, W).

    Each of the M classes has a classifier in each cell of a grid over the plane, with a channel of
    its own; a pixel takes the bilinear mean of the four cells around it. Source: local_layer_test
    of the Caffe of hypercolumns.
    """

    in_place = False
    pointwise = True
    param_fields = ("local_layer_param",)
    fork_fields = ("local_layer_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.grid = read_grid(self, message.local_layer_param.grid_size)

    def forward(self, scores: Tensor) -> Tensor:
        return interpolated(self, scores, self.grid)
