"""Update rules, one file each, found by the name that the solver's ``type`` gives."""

from caffecompat.solver.optim.rules.base import UpdateRule, register, rules

__all__ = ["UpdateRule", "register", "rules"]
