"""The rate never changes."""

from __future__ import annotations

import numpy as np

from caffecompat.solver.optim.policies.base import Policy, register


@register("fixed")
class Fixed(Policy):
    """base_lr."""

    def rate(self, iteration: int) -> np.float32:
        return self.base_lr
