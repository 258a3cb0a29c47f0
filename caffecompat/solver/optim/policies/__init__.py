"""Learning-rate policies, one file each, found by the name that ``lr_policy`` gives."""

from caffecompat.solver.optim.policies.base import Policy, policies, register

__all__ = ["Policy", "policies", "register"]
