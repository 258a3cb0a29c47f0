"""BN of DeepLab and PSPNet: four blobs, slope, bias, running mean and running variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.layers.forks.segmentation._bn_param import check_bn
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor

# Settings of the other BN, and settings whose meaning no public source of this one tells.
_SETTINGS = frozenset({"slope_filler", "bias_filler", "momentum", "eps", "frozen", "engine"})


@register("BN", fork="DeepLab, PSPNet, TSN")
class PSPNetBN(Layer):
    """y = slope (x - mean) / sqrt(variance + eps) + bias per channel (axis 1).

    Bottom and top (N, C, ...); the four parameters are (1, C, 1, 1). In TEST, or with ``frozen``,
    mean and variance are the running ones, and with ``frozen`` nothing is learned. In TRAIN they
    are those of the batch (the variance is divided by the number of values), and each pass updates
    the running ones: running = momentum running + (1 - momentum) batch.

    A slope without ``slope_filler`` starts at 0, as all blobs without a filler do.
    Source: the BN layer of PSPNet and of temporal segment networks.
    """

    parameters = ("slope", "bias", "mean", "variance")
    fork_fields = ("bn_param",)
    keeps_shape = True
    pointwise = True

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        """Told by its settings, or by the number of blobs and of ``param``."""
        p = message.bn_param
        if any(p.HasField(name) for name in ("bn_mode", "scale_filler", "shift_filler")):
            return False
        if len(message.top) > 1:
            return False
        own = any(p.HasField(name) for name in ("slope_filler", "momentum", "frozen", "eps"))
        if own or len(message.param) > 2 or len(message.blobs) > 2:
            return True
        return None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.bn_param
        check_bn(self, p, _SETTINGS, bottoms[0])
        self.eps, self.momentum = p.eps, p.momentum
        self.use_statistics = p.frozen or not self.training
        if not self.use_statistics:
            self.batch_coupling = "takes its statistics from the whole batch"
        variance = new("FillerParameter")
        variance.value = 1.0 if p.frozen else 0.0
        shape = (1, bottoms[0][1], 1, 1)
        self.parameter("slope", shape, p.slope_filler, learned=not p.frozen)
        self.parameter("bias", shape, p.bias_filler, learned=not p.frozen)
        self.parameter("mean", shape, new("FillerParameter"), learned=False)
        self.parameter("variance", shape, variance, learned=False)

    def forward(
        self, x: Tensor, *, slope: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
    ) -> Tensor:
        import torch

        self.check(
            x.dim() > 1 and x.shape[1] == slope.shape[1],
            f"the slope has {slope.shape[1]} channels, but the bottom is {format_shape(x.shape)}",
        )
        cudnn = torch.backends.cudnn.enabled
        slope, bias = slope.flatten(), bias.flatten()
        if self.use_statistics:
            running = (mean.flatten(), variance.flatten())
            return torch.batch_norm(x, slope, bias, *running, False, 0.0, self.eps, cudnn)
        self._update(x.detach(), mean, variance)
        if x.numel() == x.shape[1]:
            # torch refuses one value per channel; it differs from its mean by 0.
            shape = (1, -1, *(1,) * (x.dim() - 2))
            return (x - x) * slope.view(shape) + bias.view(shape)
        return torch.batch_norm(x, slope, bias, None, None, True, 0.0, self.eps, cudnn)

    def _update(self, x: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Adds the statistics of the batch ``x`` to the running ones."""
        import torch

        with torch.no_grad():
            axes = [0, *range(2, x.dim())]
            batch_variance, batch_mean = torch.var_mean(x, axes, correction=0)
            for running, batch in ((mean, batch_mean), (variance, batch_variance)):
                running.mul_(self.momentum).add_(batch.view_as(running), alpha=1 - self.momentum)
