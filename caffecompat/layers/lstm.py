"""LSTM: long short-term memory over sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, register
from caffecompat.layers._recurrent import Recurrent
from caffecompat.layers.lstm_unit import lstm_unit

if TYPE_CHECKING:
    from torch import Tensor

    from caffecompat.layers._recurrent import State


@register("LSTM")
class LSTM(Recurrent):
    """Long short-term memory; the top is h.

    ::

        i, f, o, g = W_xc x + b_c [+ W_xc_static x_static] + W_hc cont h'
        c = cont sigmoid(f) c' + sigmoid(i) tanh(g)
        h = sigmoid(o) tanh(c)

    With ``expose_hidden`` the states h and c are further bottoms and tops, in this order. See
    :class:`Recurrent`. Source: Caffe's LSTM layer; Hochreiter and Schmidhuber (1997).
    """

    parameters = ("weight_x", "bias", "weight_x_static", "weight_h")
    states = 2
    min_run_length = 4

    def declare(self, p: Message, inputs: int, static: int | None) -> None:
        self.parameter("weight_x", (4 * self.size, inputs), p.weight_filler)
        self.parameter("bias", (4 * self.size,), p.bias_filler)
        if static is not None:
            self.parameter("weight_x_static", (4 * self.size, static), p.weight_filler)
        self.parameter("weight_h", (4 * self.size, self.size), p.weight_filler)

    def step(self, x: Tensor, state: State, parameters: dict[str, Tensor]) -> State:
        import torch.nn.functional as F

        h, c = state
        c, h = lstm_unit(c, x + F.linear(h, parameters["weight_h"]))
        return h, c

    def to_torch_gate_order(self, parameter: Tensor) -> Tensor:
        import torch

        i, f, o, g = parameter.chunk(4)
        return torch.cat((i, f, g, o))

    def run(self, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> State:
        import torch

        gradient = torch.is_grad_enabled()
        return torch.lstm(x, state, weights, True, 1, 0.0, gradient, False, False)
