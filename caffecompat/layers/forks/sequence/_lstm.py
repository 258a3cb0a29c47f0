"""The LSTM of junhyukoh's caffe-lstm, whose three blobs other forks kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import (
    ALONG_BATCH,
    Layer,
    Message,
    Shape,
    between,
    format_shape,
)
from caffecompat.layers.lstm_unit import lstm_unit

if TYPE_CHECKING:
    from torch import Tensor


class FlatLSTM(Layer):
    """Long short-term memory over T steps of N streams; the top holds h.

    ::

        i, f, o, g = W_x x + b + W_h cont h'
        c = cont sigmoid(f) c' + sigmoid(i) tanh(g)
        h = sigmoid(o) tanh(c)

    Parameters: W_x (4H, I), W_h (4H, H), b (4H), with H = ``num_output``. A first bottom
    (T N, ...) with N = ``batch_size`` gives a top (T N, H). One with three axes (T, N, I), as CTPN
    has, gives a top (T, N, H), if ``batch_size`` is not stated. The second bottom holds a flag for
    each step of each stream: not 0 where the sequence goes on. With it the state of the last pass
    is kept, without it each pass starts from zero; no gradient flows into that state. Where
    ``clipping_threshold`` is above 0, the gradient of each gate is limited to it, before the gate's
    nonlinearity.
    """

    bottoms = between(1, 2)
    in_place = False
    differentiable = (True, False)
    parameters = ("weight_x", "weight_h", "bias")
    fork_fields = ("lstm_param",)
    batch_coupling = ALONG_BATCH

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.lstm_param
        self.check(p.num_output > 0, "num_output is missing or 0, it must be positive")
        self.size = p.num_output
        self.clip = p.clipping_threshold
        self.keeps_state = len(bottoms) > 1
        self.state: tuple[Tensor, Tensor] | None = None
        self._limited = _limited_gradient()
        shape = bottoms[0]
        self.streams = None if self._has_streams(p, bottoms) else p.batch_size
        self.check(
            self.streams is None or (self.streams > 0 and shape[0] % self.streams == 0),
            f"the bottom is {format_shape(shape)}, but its first axis must be a multiple of "
            f"batch_size {self.streams}",
        )
        inputs = prod(shape[1:] if self.streams else shape[2:])
        self.parameter("weight_x", (4 * self.size, inputs), p.weight_filler)
        self.parameter("weight_h", (4 * self.size, self.size), p.weight_filler)
        self.parameter("bias", (4 * self.size,), p.bias_filler)

    def _has_streams(self, p: Message, bottoms: Sequence[Shape]) -> bool:
        """Whether the second axis of the first bottom counts the streams."""
        shape = bottoms[0]
        self.check(len(shape) > 1, f"the bottom is {format_shape(shape)}, it needs more axes")
        three = len(shape) == 3 and not p.HasField("batch_size")
        if len(bottoms) == 1:
            return three
        flags = prod(bottoms[1])
        self.check(
            flags == shape[0] or (three and flags == shape[0] * shape[1]),
            f"its bottoms are {format_shape(shape)} and {format_shape(bottoms[1])}; the second one "
            "needs one flag for each step of each stream",
        )
        return three and flags == shape[0] * shape[1]

    def forward(
        self,
        x: Tensor,
        flags: Tensor | None = None,
        *,
        weight_x: Tensor,
        weight_h: Tensor,
        bias: Tensor,
    ) -> Tensor:
        import torch
        import torch.nn.functional as F

        steps = x.unflatten(0, (-1, self.streams)) if self.streams else x
        count, streams = steps.shape[:2]
        self.check(
            prod(steps.shape[2:]) == weight_x.shape[1]
            and (flags is None or flags.numel() == count * streams),
            f"the bottom is {format_shape(x.shape)}, but the weight takes {weight_x.shape[1]} "
            "inputs, and there must be one flag for each step of each stream",
        )
        cont = self._continues(steps, flags)
        h, c = self._first_state(steps, weight_h, flags is not None)
        inputs = F.linear(steps.flatten(2), weight_x, bias)
        hidden = []
        for at_step, on in zip(inputs, cont, strict=True):
            gates = at_step + F.linear(h * on, weight_h)
            if self.clip > 0:
                gates = self._limited(gates, self.clip)
            c, h = lstm_unit(c * on, gates)
            hidden.append(h)
        if flags is not None and not x.is_meta:
            self.state = (h.detach(), c.detach())
        y = torch.stack(hidden)
        return y.flatten(0, 1) if self.streams else y

    def _continues(self, steps: Tensor, flags: Tensor | None) -> Tensor:
        """(T, N, 1): 0 where a sequence begins, else 1."""
        count, streams = steps.shape[:2]
        if flags is None:
            cont = steps.new_ones(count, streams, 1)
            cont[0] = 0
            return cont
        return (flags.detach() != 0).to(steps.dtype).reshape(count, streams, 1)

    def _first_state(self, steps: Tensor, weight: Tensor, keeps: bool) -> tuple[Tensor, Tensor]:
        shape, kept = (steps.shape[1], self.size), self.state
        if not keeps or kept is None or (kept[0].shape, kept[0].device) != (shape, steps.device):
            return weight.new_zeros(shape), weight.new_zeros(shape)
        return kept[0].to(weight.dtype), kept[1].to(weight.dtype)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        rows = prod(tops[0]) // self.size
        return rows * sum(prod(spec.shape) for spec in self.specs if len(spec.shape) == 2)


def _limited_gradient() -> Any:
    """The identity, whose gradient is limited to plus and minus a threshold."""
    import torch

    class Limit(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, threshold: float) -> Tensor:
            ctx.threshold = threshold
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
            return gradients[0].clamp(-ctx.threshold, ctx.threshold), None

    return Limit.apply
