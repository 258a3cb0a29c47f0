"""ChannelScale: vectors over channels times a factor for each position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Layer, Message, Shape, between, exactly, format_shape, register
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor


@register("ChannelScale", fork="NormFace")
class ChannelScale(Layer):
    """The features (N, C, ...) times a factor for each sample and position.

    The second bottom has the factors, N x (count of a channel). ``do_forward: false`` copies the
    features; ``do_backward_feature: false`` passes the top's gradient on without the factor, and
    ``do_backward_scale: false`` gives the factors no gradient. With ``global_scale`` there is one
    factor instead, a stored blob, which is also the second top; the gradients still take the second
    bottom's factors. In TRAIN the blob is 0.99 of itself and 0.01 of the mean absolute factor,
    between ``min_global_scale`` and ``max_global_scale``; below 0, as at the start, it becomes that
    mean. Source: NormFace's ChannelScale layer on GPUs (the one for CPUs does not update the blob).
    """

    bottoms = exactly(2)
    tops = between(1, 2)
    in_place = False
    parameters = ("scale",)
    fork_fields = ("channel_scale_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.channel_scale_param
        features, factors = bottoms
        self.check(
            len(features) > 1 and len(factors) > 0 and features[0] == factors[0],
            f"the bottoms are {format_shape(features)} and {format_shape(factors)}, they must have "
            "as many samples",
        )
        positions = features[0] * prod(features[2:])
        self.check(
            prod(factors) == positions,
            f"there are {prod(factors)} factors for {positions} positions of the features "
            f"{format_shape(features)}",
        )
        self.changes = p.do_forward
        self.is_global = p.global_scale
        self.second = len(message.top) > 1
        self.check(not self.second or self.is_global, "a second top needs global_scale: true")
        self.limits = (p.min_global_scale, p.max_global_scale)
        self._scaled = _scaled(p.do_backward_feature, p.do_backward_scale)
        if self.is_global:
            self.batch_coupling = "takes its scale from the whole batch"
            for param in message.param:
                self.check(param.lr_mult == 0, "the scale is not learned; write lr_mult: 0")
            start = new("FillerParameter")
            start.value = -1
            self.parameter("scale", (1,), start, learned=False)

    def forward(
        self, x: Tensor, factors: Tensor, scale: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        own = factors.reshape(x.shape[0], 1, *x.shape[2:])
        if scale is not None and self.training and self.changes:
            self._update(scale, factors)
        if scale is not None:
            # A copy: the next pass changes the blob.
            scale = scale.detach().clone()
        used = x.new_ones(1) if not self.changes else own.detach() if scale is None else scale
        y: Tensor = self._scaled(x, own, used)
        if not self.second:
            return y
        assert scale is not None
        return y, scale

    def _update(self, scale: Tensor, factors: Tensor) -> None:
        import torch

        with torch.no_grad():
            mean = factors.abs().mean()
            moved = torch.where(scale < 0, mean, 0.99 * scale + 0.01 * mean)
            scale.copy_(moved.clamp(*self.limits))


def _scaled(into_features: bool, into_factors: bool) -> Callable[..., Any]:
    import torch

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, own: Tensor, used: Tensor) -> Tensor:
            ctx.save_for_backward(x, own)
            return x * used.view(-1, *(1,) * (x.dim() - 1)) if used.dim() == 1 else x * used

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, Tensor, None]:
            x, own = ctx.saved_tensors
            features = diff * own if into_features else diff
            factors = (x * diff).sum(1, keepdim=True) if into_factors else torch.zeros_like(own)
            return features, factors, None

    return Scaled.apply
