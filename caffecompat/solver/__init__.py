"""Training: learning-rate policies, update rules, the loop, tests, snapshots."""

from caffecompat.solver.log import GlogFormatter, log_to_stderr
from caffecompat.solver.signals import Action, SignalActions
from caffecompat.solver.solver import Solver

__all__ = ["Action", "GlogFormatter", "SignalActions", "Solver", "log_to_stderr"]
