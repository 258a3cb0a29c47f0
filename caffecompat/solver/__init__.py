"""Training: learning-rate policies, update rules, the loop, tests, snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.first_use import names_at_first_use

if TYPE_CHECKING:
    from caffecompat.reporting.glog import GlogFormatter, log_to_stderr
    from caffecompat.solver.callbacks import Callback, Training
    from caffecompat.solver.distributed.process_group import join_ranks
    from caffecompat.solver.setup.options import SolverOptions
    from caffecompat.solver.signals import Action, SignalActions
    from caffecompat.solver.solver import Solver

__all__ = [
    "Action",
    "Callback",
    "GlogFormatter",
    "SignalActions",
    "Solver",
    "SolverOptions",
    "Training",
    "join_ranks",
    "log_to_stderr",
]

# Imported when first used, since some users of this package do not need torch.
_MODULES = {
    "Action": "caffecompat.solver.signals",
    "Callback": "caffecompat.solver.callbacks",
    "GlogFormatter": "caffecompat.reporting.glog",
    "SignalActions": "caffecompat.solver.signals",
    "Solver": "caffecompat.solver.solver",
    "SolverOptions": "caffecompat.solver.setup.options",
    "Training": "caffecompat.solver.callbacks",
    "join_ranks": "caffecompat.solver.distributed.process_group",
    "log_to_stderr": "caffecompat.reporting.glog",
}


__getattr__ = names_at_first_use(__name__, _MODULES)
