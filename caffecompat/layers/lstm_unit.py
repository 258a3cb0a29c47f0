"""LSTMUnit: one step of an LSTM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM: c = cont sigmoid(f) c' + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c).

    Bottoms: c' (1, N, D), the gates (1, N, 4D) in the order i, f, o, g, and cont (1, N); tops c
    and h (1, N, D). Source: Caffe's LSTMUnit layer.
    """

    bottoms = exactly(3)
    tops = exactly(2)
    in_place = False
    differentiable = (True, True, False)

    def forward(self, c: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        self.check(
            c.dim() == 3
            and c.shape[0] == 1
            and gates.shape == (1, c.shape[1], 4 * c.shape[2])
            and cont.shape == c.shape[:2],
            f"its bottoms are {', '.join(format_shape(x.shape) for x in (c, gates, cont))}; they "
            "must be 1xNxD, 1xNx4D and 1xN",
        )
        return lstm_unit(c * cont.detach().unsqueeze(-1), gates)


def lstm_unit(c: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """c and h (..., D) after a step, from cont * c and gates (..., 4D)."""
    i, f, o, g = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return c, o.sigmoid() * c.tanh()
