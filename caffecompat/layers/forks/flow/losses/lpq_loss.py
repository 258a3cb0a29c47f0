"""LpqLoss of FlowNet: a loss with two exponents."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers.forks.flow.losses._flow_error import FlowLoss

if TYPE_CHECKING:
    from torch import Tensor


@register("LpqLoss", fork="FlowNet")
class LpqLoss(FlowLoss):
    """sum over pixels of (sum over C of (|d| + p_epsilon)^p + q_epsilon)^q, divided by N.

    Bottoms (N, C, H, W): d is the difference of two, or the only one; elements that are NaN count
    as 0. ``l2_prescale_by_channels`` divides the inner sum by C. With ``normalize_by_num_entries``
    the divisor is the number of elements that are not NaN, divided by C.

    With ``pq_episode_starts_at_iter`` each ``p`` and ``q`` applies from that pass on, counted from
    0; the original counts the solver's iterations, which are the same unless iter_size is above 1.
    The gradient at d = 0 is that of a negative d. Source: FlowNet 2's LpqLoss layer.
    """

    fork_fields = ("lpq_loss_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.lpq_loss_param
        self.p_epsilon, self.q_epsilon = p.p_epsilon, p.q_epsilon
        self.prescale = p.l2_prescale_by_channels
        starts = list(p.pq_episode_starts_at_iter)
        if not starts and len(p.p) == len(p.q) == 1:
            starts = [0]
        self.check(
            len(starts) == len(p.p) == len(p.q),
            f"pq_episode_starts_at_iter has {len(starts)} values, p has {len(p.p)} and q has "
            f"{len(p.q)}; they must be as many",
        )
        self.check(bool(starts), "p and q are missing")
        self.check(
            starts[0] == 0 and all(a < b for a, b in itertools.pairwise(starts)),
            f"pq_episode_starts_at_iter is {', '.join(map(str, starts))}; it must start with 0 and "
            "increase",
        )
        self.episodes = list(zip(starts, p.p, p.q, strict=True))
        self.divide_by(p.normalize_by_num_entries)

    def forward(self, *bottoms: Tensor) -> Tensor:
        import torch

        x = self.difference(bottoms)
        self.check(x.dim() > 1, f"the bottom is {format_shape(x.shape)}, it needs channels")
        known = ~x.isnan()
        x = x.where(known, 0)
        sign = torch.where(x.detach() > 0, 1.0, -1.0).to(x.dtype)
        p, q = self._exponents(x)
        inner = _power(x * sign + self.p_epsilon, p).sum(1)
        if self.prescale:
            inner = inner / x.shape[1]
        total = _power(inner + self.q_epsilon, q).sum()
        return total / self.divisor(known)

    def _exponents(self, x: Tensor) -> tuple[Tensor | float, Tensor | float]:
        import torch

        _, p, q = self.episodes[0]
        if len(self.episodes) == 1:
            return p, q
        now = self.noise.position.to(x.device)
        first, second = torch.full_like(x[:0].sum(), p), torch.full_like(x[:0].sum(), q)
        for start, p, q in self.episodes[1:]:
            first = torch.where(now >= start, p, first)
            second = torch.where(now >= start, q, second)
        return first, second


def _power(x: Tensor, exponent: Tensor | float) -> Tensor:
    """As Caffe's Power layer: an exponent of 1 has the gradient 1 at 0 too."""
    return x if isinstance(exponent, float) and exponent == 1 else x.pow(exponent)
