"""Training: learning-rate policies, update rules, the loop, tests, snapshots."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caffecompat.solver.listener import Listener
    from caffecompat.solver.log import GlogFormatter, log_to_stderr
    from caffecompat.solver.options import SolverOptions
    from caffecompat.solver.ranks import join_ranks
    from caffecompat.solver.signals import Action, SignalActions
    from caffecompat.solver.solver import Solver

__all__ = [
    "Action",
    "GlogFormatter",
    "Listener",
    "SignalActions",
    "Solver",
    "SolverOptions",
    "join_ranks",
    "log_to_stderr",
]

# Loaded when asked for: reading a log does not need torch.
_HOMES = {
    "Action": "signals",
    "GlogFormatter": "log",
    "Listener": "listener",
    "SignalActions": "signals",
    "Solver": "solver",
    "SolverOptions": "options",
    "join_ranks": "ranks",
    "log_to_stderr": "log",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
