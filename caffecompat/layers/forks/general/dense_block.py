"""DenseBlock: a whole block of DenseNet as one layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor

_EPS = 1e-5
# Channels of a bottleneck, as a multiple of the growth rate.
_BOTTLENECK = 4


@register("DenseBlock", fork="DenseNet")
class DenseBlock(Layer):
    """``numTransition`` times: batch normalisation, ReLU, 3 x 3 convolution, appended channels.

    (N, ``initChannel``, H, W) becomes (N, initChannel + numTransition ``growthRate``, H, W): each
    transition reads all channels so far and appends growthRate more. With ``use_BC`` a 1 x 1
    convolution to 4 growthRate channels comes before it, and a normalisation and ReLU of these.
    Convolutions have padding 1 and 0, and no bias. In TRAIN with ``use_dropout``, new channels are
    dropped with probability ``dropout_amount``, the others divided by 1 - dropout_amount.

    Parameters, each for all T transitions in turn: 3 x 3 weights, scales, shifts, running means,
    running variances; with use_BC 1 x 1 weights, scales, shifts, means and variances of the
    bottleneck; at last a counter that is not used. TEST normalises with the running values; TRAIN
    with those of the batch, and running = ``moving_average_fraction`` batch
    + (1 - moving_average_fraction) running, with the unbiased variance. ``Filter_Filler``,
    ``BN_Scaler_Filler`` and ``BN_Bias_Filler`` fill weights, scales and shifts. The kernel, padding
    and stride fields are not used. Source: DenseBlock_layer.cu of Tongcheng Li's efficient DenseNet
    Caffe; its CPU version scales the running values by the counter.
    """

    in_place = False
    fork_fields = ("denseblock_param",)
    prefers_channels_last = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.denseblock_param
        self.start, self.growth = int(p.initChannel), int(p.growthRate)
        self.transitions, self.bottleneck = int(p.numTransition), bool(p.use_BC)
        self.check(
            min(self.start, self.growth, self.transitions) > 0,
            "denseblock_param: initChannel, growthRate and numTransition must be positive",
        )
        self.momentum = float(p.moving_average_fraction)
        self.dropout = float(p.dropout_amount) if p.use_dropout and self.training else 0.0
        self.check(
            0 <= self.dropout < 1, f"dropout_amount is {self.dropout:g}, expected 0 to below 1"
        )
        if self.training:
            self.batch_coupling = "takes its statistics from the whole batch"
        self._declare(p)

    def _declare(self, p: Message) -> None:
        steps = range(self.transitions)
        wide = _BOTTLENECK * self.growth
        channels = [self.start + i * self.growth for i in steps]
        inner = [wide] * self.transitions if self.bottleneck else channels
        weights = [(self.growth, count, 3, 3) for count in inner]
        self._block(p, weights, channels)
        if self.bottleneck:
            pointwise = [(wide, count, 1, 1) for count in channels]
            self._block(p, pointwise, [wide] * self.transitions)
        self._blob((1,), new("FillerParameter"), learned=False)

    def _block(self, p: Message, weights: Sequence[Shape], channels: list[int]) -> None:
        """Declares weights, scales, shifts and running values of one convolution."""
        zero, one = new("FillerParameter"), new("FillerParameter")
        one.value = 1
        for shape in weights:
            self._blob(shape, p.Filter_Filler)
        for filler in (p.BN_Scaler_Filler, p.BN_Bias_Filler):
            for count in channels:
                self._blob((1, count, 1, 1), filler)
        for filler in (zero, one):
            for count in channels:
                self._blob((1, count, 1, 1), filler, learned=False)

    def _blob(self, shape: Shape, filler: Message, learned: bool = True) -> None:
        self.parameter(f"blob{len(self.specs)}", shape, filler, learned)

    def forward(self, x: Tensor, **parameters: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        self.check(
            x.dim() == 4 and x.shape[1] == self.start,
            f"the bottom is {format_shape(x.shape)}; expected N x {self.start} x H x W",
        )
        blobs = [parameters[spec.name] for spec in self.specs]
        for step in range(self.transitions):
            y = self._normalised(x, blobs, step)
            if self.bottleneck:
                y = F.conv2d(y, blobs[5 * self.transitions + step])
                y = self._normalised(y, blobs[5 * self.transitions :], step)
            y = F.conv2d(y, blobs[step], padding=1)
            if self.dropout:
                y = self._dropped(y, step)
            x = torch.cat([x, y], 1)
        return x

    def _normalised(self, x: Tensor, blobs: Sequence[Tensor], step: int) -> Tensor:
        """ReLU of the normalised bottom; updates the running values in TRAIN."""
        import torch

        scale, shift, mean, variance = (
            blobs[kind * self.transitions + step].flatten() for kind in range(1, 5)
        )
        if not self.training:
            y = (x - _across(mean)) * _across(scale / (variance + _EPS).sqrt()) + _across(shift)
            return y.relu()
        deviation, average = torch.var_mean(x, (0, 2, 3), correction=0)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            unbiased = deviation * count / max(count - 1, 1)
            mean.lerp_(average.to(mean.dtype), self.momentum)
            variance.lerp_(unbiased.to(variance.dtype), self.momentum)
        y = (x - _across(average)) * _across(scale / (deviation + _EPS).sqrt()) + _across(shift)
        return y.relu()

    def _dropped(self, y: Tensor, step: int) -> Tensor:
        like = y.new_empty(y.shape[0], self.transitions * self.growth, *y.shape[2:])
        kept = self.noise.keep(like, 1 - self.dropout)
        kept = kept[:, step * self.growth : (step + 1) * self.growth]
        return y * kept / (1 - self.dropout)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        n, _, h, w = bottoms[0]
        total = 0
        for spec in self.specs:
            if len(spec.shape) == 4 and spec.shape[0] > 1:
                outputs, inputs, rows, columns = spec.shape
                total += outputs * inputs * rows * columns
        return total * n * h * w


def _across(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
