"""BatchNorm: normalisation by the statistics of a batch, or by their running average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor


@register("BatchNorm")
class BatchNorm(Layer):
    """y = (x - mean) / sqrt(variance + eps) per channel (axis 1), without scale and shift.

    Bottom and top (N, C, ...). In TRAIN, or with ``use_global_stats: false``, mean and (biased)
    variance are those of the batch, and each forward pass adds them to the statistics::

        scale_factor = fraction * scale_factor + 1
        mean         = fraction * mean + batch mean
        variance     = fraction * variance + batch variance * m / (m - 1)     (m = N * spatial)

    with the factor of the variance 1 where m is 1. In TEST, or with ``use_global_stats: true``,
    mean / scale_factor and variance / scale_factor are used; a factor of 0 makes both 0.
    With Synopsys' ``add_eps_before_sqrt: false`` the divisor is sqrt(variance) + eps.
    Statistics are never learned: ``lr_mult`` must be 0. Source: Caffe's BatchNorm layer.
    """

    parameters = ("mean", "variance", "scale_factor")
    pointwise = True
    ignores_propagate_down = True
    fork_fields = ("batch_norm_param.add_eps_before_sqrt",)
    # NVCaffe's definition of the type is meant where it is true.
    ignored_fork_fields = ("batch_norm_param.scale_bias",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.batch_norm_param
        self.eps = p.eps
        self.eps_outside = p.HasField("add_eps_before_sqrt") and not p.add_eps_before_sqrt
        self.fraction = p.moving_average_fraction
        stated = p.HasField("use_global_stats")
        self.use_statistics = p.use_global_stats if stated else not self.training
        if not self.use_statistics:
            self.batch_coupling = "takes its statistics from the whole batch"
        self.check(
            len(bottoms[0]) > 1,
            f"the bottom is {format_shape(bottoms[0])}, it needs channels along axis 1",
        )
        for param in message.param:
            self.check(
                param.lr_mult == 0,
                f"a param has lr_mult {param.lr_mult:g}; BatchNorm's statistics are not learned, "
                "write lr_mult: 0 or leave param out",
            )
        zero = new("FillerParameter")
        channels = bottoms[0][1]
        for name, count in (("mean", channels), ("variance", channels), ("scale_factor", 1)):
            self.parameter(name, (count,), zero, learned=False)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape] | None:
        # The forward pass refuses these settings together.
        refused = self.eps_outside and not self.use_statistics
        return None if refused else [bottoms[0]]

    def forward(self, x: Tensor, mean: Tensor, variance: Tensor, scale_factor: Tensor) -> Tensor:
        import torch

        self.check(
            x.dim() > 1 and x.shape[1] == mean.shape[0],
            f"the statistics have {mean.shape[0]} channels, but the bottom is "
            f"{format_shape(x.shape)}",
        )
        cudnn = torch.backends.cudnn.enabled
        if self.use_statistics:
            scale = torch.where(scale_factor == 0, 0, 1 / scale_factor)
            if self.eps_outside:
                return self._divided_outside(x, mean * scale, variance * scale)
            return torch.batch_norm(
                x, None, None, mean * scale, variance * scale, False, 0.0, self.eps, cudnn
            )
        self.check(not self.eps_outside, "add_eps_before_sqrt: false is for stored statistics only")
        if x.numel() == x.shape[1]:
            # With one value per channel torch's factor m / (m - 1) would divide by zero.
            self._add_batch(x.detach().flatten(), None, mean, variance, scale_factor)
            return (x - x) / self.eps**0.5
        # With momentum 1 torch stores the batch's mean and unbiased variance in these tensors.
        batch_mean, batch_variance = torch.zeros_like(mean), torch.zeros_like(variance)
        y = torch.batch_norm(x, None, None, batch_mean, batch_variance, True, 1.0, self.eps, cudnn)
        self._add_batch(batch_mean, batch_variance, mean, variance, scale_factor)
        return y

    def _divided_outside(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.dim() - 2))
        return (x - mean.view(shape)) / (variance.sqrt() + self.eps).view(shape)

    def _add_batch(
        self,
        batch_mean: Tensor,
        batch_variance: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        scale_factor: Tensor,
    ) -> None:
        """Adds the batch to the statistics; ``batch_variance`` None is 0."""
        import torch

        with torch.no_grad():
            scale_factor.mul_(self.fraction).add_(1)
            mean.mul_(self.fraction).add_(batch_mean)
            variance.mul_(self.fraction)
            if batch_variance is not None:
                variance.add_(batch_variance)
