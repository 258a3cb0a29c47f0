"""AdaDelta: gradients scaled by the ratio of recent updates to recent gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffecompat.solver.optim.rules.base import Tensors, UpdateRule, register


@register("AdaDelta")
class AdaDelta(UpdateRule):
    """G = m G + (1 - m) g^2; u = g sqrt((U + delta) / (G + delta)); U = m U + (1 - m) u^2.

    The update is rate * u; the history holds u, without the rate. ``momentum`` is the
    decay constant m. Source: Caffe's AdaDeltaSolver.
    """

    history_slots = 2
    squares = (0, 1)

    def updates(self, gradients: Tensors, history: Sequence[Tensors], rate: Tensor) -> Tensors:
        seen, applied = history
        torch._foreach_mul_(seen, self.momentum)
        torch._foreach_addcmul_(seen, gradients, gradients, 1.0 - self.momentum)
        updates = torch._foreach_add(applied, self.delta)
        torch._foreach_div_(updates, torch._foreach_add(seen, self.delta))
        torch._foreach_sqrt_(updates)
        torch._foreach_mul_(updates, gradients)
        torch._foreach_mul_(applied, self.momentum)
        torch._foreach_addcmul_(applied, updates, updates, 1.0 - self.momentum)
        torch._foreach_mul_(updates, rate)
        return list(updates)
