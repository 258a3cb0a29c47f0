"""BatchNorm of NVCaffe: normalisation with a factor and a summand per channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor

LEAST_EPS = 1e-5


@register("BatchNorm", fork="NVCaffe")
class BatchNormWithScale(Layer):
    """y = scale (x - mean) / sqrt(variance + eps) + bias per channel (axis 1).

    Bottom and top (N, C, ...). It is meant by ``scale_bias``, ``scale_filler`` or ``bias_filler``;
    scale is 1 and bias 0 without a filler, and eps is at least 1e-5. The five blobs are mean,
    variance, one value that is not read, scale and bias; the first three are never learned. In
    TRAIN mean and (biased) variance are those of the batch, and each pass updates the statistics::

        mean     = fraction * mean + (1 - fraction) * batch mean
        variance = fraction * variance + (1 - fraction) * batch variance * m / (m - 1)

    with m = N * spatial; a statistic that is all 0 becomes that of the batch. In TEST the
    statistics are used. Source: NVCaffe's BatchNorm layer and its call of cuDNN.
    """

    parameters = ("mean", "variance", "correction", "scale", "bias")
    keeps_shape = True
    pointwise = True
    fork_fields = (
        "batch_norm_param.scale_bias",
        "batch_norm_param.scale_filler",
        "batch_norm_param.bias_filler",
    )

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.batch_norm_param
        # Intel's Caffe has a bias_filler too, beside its filler.
        asked = p.scale_bias or p.HasField("scale_filler") or p.HasField("bias_filler")
        return bool(asked) and not p.HasField("filler")

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.batch_norm_param
        self.eps = max(p.eps, LEAST_EPS)
        self.fraction = p.moving_average_fraction
        self.use_statistics = not self.training
        if not self.use_statistics:
            self.batch_coupling = "takes its statistics from the whole batch"
        self.check(
            len(bottoms[0]) > 1,
            f"the bottom is {format_shape(bottoms[0])}, it needs channels along axis 1",
        )
        zero, one = new("FillerParameter"), new("FillerParameter")
        one.value = 1
        channels = bottoms[0][1]
        self.parameter("mean", (channels,), zero, learned=False)
        self.parameter("variance", (channels,), zero, learned=False)
        self.parameter("correction", (1,), one, learned=False)
        scale_filler = p.scale_filler if p.HasField("scale_filler") else one
        self.parameter("scale", (channels,), scale_filler)
        self.parameter("bias", (channels,), p.bias_filler)

    def forward(
        self,
        x: Tensor,
        mean: Tensor,
        variance: Tensor,
        correction: Tensor,
        scale: Tensor,
        bias: Tensor,
    ) -> Tensor:
        import torch

        self.check(
            x.dim() > 1 and x.shape[1] == mean.shape[0],
            f"the statistics have {mean.shape[0]} channels, but the bottom is "
            f"{format_shape(x.shape)}",
        )
        cudnn = torch.backends.cudnn.enabled
        if self.use_statistics:
            return torch.batch_norm(x, scale, bias, mean, variance, False, 0.0, self.eps, cudnn)
        if x.numel() == x.shape[1]:
            # One value per channel: torch's factor m / (m - 1) would divide by zero.
            self._update(mean, x.detach().flatten())
            self._update(variance, torch.zeros_like(variance))
            shape = (-1, *(1,) * (x.dim() - 2))
            return (x - x) / self.eps**0.5 * scale.view(shape) + bias.view(shape)
        # With momentum 1 torch stores the batch's mean and unbiased variance in these tensors.
        batch_mean, batch_variance = torch.zeros_like(mean), torch.zeros_like(variance)
        y = torch.batch_norm(x, scale, bias, batch_mean, batch_variance, True, 1.0, self.eps, cudnn)
        self._update(mean, batch_mean)
        self._update(variance, batch_variance)
        return y

    def _update(self, statistic: Tensor, batch: Tensor) -> None:
        import torch

        with torch.no_grad():
            averaged = self.fraction * statistic + (1 - self.fraction) * batch
            statistic.copy_(torch.where((statistic == 0).all(), batch, averaged))
