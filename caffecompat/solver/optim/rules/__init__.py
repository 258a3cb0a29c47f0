"""Update rules, one file each, found by the name that the solver's ``type`` gives."""

from caffecompat.solver.optim.rules.base import DeviceUpdate, UpdateRule, register, rules

__all__ = ["DeviceUpdate", "UpdateRule", "register", "rules"]
