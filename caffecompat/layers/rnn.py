"""RNN: a recurrent layer with one state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, register
from caffecompat.layers._recurrent import Recurrent

if TYPE_CHECKING:
    from torch import Tensor

    from caffecompat.layers._recurrent import State


@register("RNN")
class RNN(Recurrent):
    """h = tanh(W_hh cont h' + W_xh x + b_h [+ W_xh_static x_static]), o = tanh(W_ho h + b_o).

    The top is o, not h; with ``expose_hidden`` h before the first and after the last step is a
    third (fourth) bottom and second top. See :class:`Recurrent`. Source: Caffe's RNN layer.
    """

    parameters = ("weight_x", "bias", "weight_x_static", "weight_h", "weight_o", "bias_o")
    states = 1
    min_run_length = 10

    def declare(self, p: Message, inputs: int, static: int | None) -> None:
        size = self.size
        self.parameter("weight_x", (size, inputs), p.weight_filler)
        self.parameter("bias", (size,), p.bias_filler)
        if static is not None:
            self.parameter("weight_x_static", (size, static), p.weight_filler)
        self.parameter("weight_h", (size, size), p.weight_filler)
        self.parameter("weight_o", (size, size), p.weight_filler)
        self.parameter("bias_o", (size,), p.bias_filler)

    def step(self, x: Tensor, state: State, parameters: dict[str, Tensor]) -> State:
        import torch.nn.functional as F

        return ((x + F.linear(state[0], parameters["weight_h"])).tanh(),)

    def run(self, x: Tensor, state: list[Tensor], weights: list[Tensor]) -> State:
        import torch

        gradient = torch.is_grad_enabled()
        return torch.rnn_tanh(x, state[0], weights, True, 1, 0.0, gradient, False, False)

    def output(self, hidden: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        import torch.nn.functional as F

        return F.linear(hidden, parameters["weight_o"], parameters["bias_o"]).tanh()
