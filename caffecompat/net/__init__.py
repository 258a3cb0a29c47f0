"""Executable nets: layer modules, shapes, parameters, blobs, passes.

The names below are imported when they are first used: what describes a net without torch lies in
this package too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.first_use import names_at_first_use

if TYPE_CHECKING:
    from caffecompat.net.blobs.blob import Blob
    from caffecompat.net.execution.stepper import Stepper
    from caffecompat.net.net import Net, Result
    from caffecompat.net.parameters.initial_values import Learnable
    from caffecompat.net.parameters.load_report import LoadReport

_MODULES = {
    "Blob": "caffecompat.net.blobs.blob",
    "Learnable": "caffecompat.net.parameters.initial_values",
    "LoadReport": "caffecompat.net.parameters.load_report",
    "Net": "caffecompat.net.net",
    "Result": "caffecompat.net.net",
    "Stepper": "caffecompat.net.execution.stepper",
}

__all__ = ["Blob", "Learnable", "LoadReport", "Net", "Result", "Stepper"]


__getattr__ = names_at_first_use(__name__, _MODULES)
