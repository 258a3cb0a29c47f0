"""Mean: a mean added or subtracted, with scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, at_least, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers._device_copies import DeviceCopies

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@register("Mean", fork="FlowNet")
class Mean(Layer):
    """output_scale (input_scale x +- mean_scale mean), for each bottom (N, C, H, W).

    ``operation`` says whether the mean is added or subtracted. The mean is ``value`` per channel,
    repeated as often as the channels need, or the mean file ``file``. It has no gradient.
    Source: FlowNet's Mean layer.
    """

    bottoms = at_least(1)
    tops = at_least(1)
    fork_fields = ("mean_param",)
    differentiable = (False,)
    pointwise = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.mean_param
        self.check(
            len(message.top) == len(bottoms),
            f"it has {len(bottoms)} bottoms and {len(message.top)} tops; give one top for each",
        )
        sign = -1.0 if p.operation == p.SUBTRACT else 1.0
        self.inner, self.outer, self.factor = p.input_scale, p.output_scale, sign * p.mean_scale
        mean = self._read(p)
        self.mean, count = DeviceCopies(mean), mean.shape[0]
        for shape in bottoms:
            self.check(
                len(shape) == 4
                and shape[1] % count == 0
                and tuple(mean.shape[1:]) in ((1, 1), tuple(shape[2:])),
                f"the mean is {format_shape(mean.shape)}, the bottom {format_shape(shape)}; "
                "the channels must be a multiple of the mean's, and height and width equal",
            )

    def _read(self, p: Message) -> torch.Tensor:
        import torch

        if not p.HasField("file"):
            self.check(len(p.value) > 0, "it has neither value nor file; give one of them")
            return torch.tensor(list(p.value)).view(-1, 1, 1)
        from caffecompat.weights.mean_file import read_mean

        with errors_at(self.context.place):
            return torch.from_numpy(read_mean(p.file).copy())

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = tuple(self._shifted(x.detach()) for x in bottoms)
        return tops if len(tops) > 1 else tops[0]

    def _shifted(self, x: Tensor) -> Tensor:
        mean = self.mean.on(x.device, x.dtype)
        mean = mean.repeat(x.shape[1] // mean.shape[0], 1, 1)
        return self.outer * (self.inner * x + self.factor * mean)
