"""Learning-rate policies, one file each, found by the name that ``lr_policy`` gives."""

from caffecompat.solver.policies.base import Policy, policies, register

__all__ = ["Policy", "policies", "register"]
