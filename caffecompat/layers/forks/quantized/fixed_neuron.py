"""FixedNeuron: activations rounded to fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._surrogate_gradient import with_gradient_of
from caffecompat.layers.forks.quantized._fixed_positions import (
    best_position,
    read_settings,
    rounded,
    rounded_activations,
    truncated,
)
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor

_METHODS = ("OVER_FLOW", "DIFF_S", "DIFF_A", "DIFF_S_SIGMOID")


@register("FixedNeuron", fork="DeePhi, Xilinx")
class FixedNeuron(Layer):
    """The bottom (any shape), rounded to ``bit_width`` bits of fixed point.

    The parameter ``position`` (1,) is the number p of binary digits after the point: values are
    whole multiples of 2^-p. In TEST it is that of the weights file, and ties go up; with
    ``follow_data_layer`` values are truncated towards 0 instead, without limits. In TRAIN each pass
    finds p for its batch by ``fixed_method`` (see ``_fixed_positions.py``; DIFF_A is DIFF_S) and
    stores it; a resumed run stores the same. With ``enable: false`` the top is the bottom.
    Gradients pass through the rounding.

    The original stores the most frequent position so far instead of the last one (and rounds to it,
    but for OVER_FLOW), and stops the search once a solver setting says so. Source:
    fixed_neuron_layer.cpp of Xilinx' Caffe.
    """

    parameters = ("position",)
    param_fields = ("fixed_param",)
    fork_fields = ("fixed_param",)
    batch_coupling = "rounds to digits that it chooses for the whole batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.fixed = read_settings(self, message, _METHODS)
        self.follows_data = message.fixed_param.follow_data_layer
        self.parameter("position", (1,), new("FillerParameter"), learned=False)

    def forward(self, x: Tensor, *, position: Tensor) -> Tensor:
        if not self.fixed.enabled:
            return x.clone()
        values = x.detach()
        if self.training:
            place = best_position(values, self.fixed)
            position.detach().copy_(place.reshape(1))
        else:
            place = position.detach().floor().reshape(())
        if not self.follows_data:
            y = rounded_activations(values, self.fixed.bits, place)
        elif self.training:
            y = rounded(values, self.fixed.bits, place)
        else:
            y = truncated(values, place)
        return with_gradient_of(y, x)
