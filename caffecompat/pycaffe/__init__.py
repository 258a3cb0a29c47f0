"""pycaffe's interface: what ``import caffe`` gives, on the nets and solvers of this package.

``import caffecompat.pycaffe as caffe`` in a script, or :func:`caffecompat.install_as_caffe` before
it, or ``python -m caffecompat.run script.py`` without changing it. ``docs/pycaffe.md`` lists all
names and what differs. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from caffecompat.graph.state import TEST, TRAIN

if TYPE_CHECKING:
    from caffecompat.pycaffe._caffe import (
        NCCL,
        AdaDeltaSolver,
        AdaGradSolver,
        AdamSolver,
        Layer,
        NesterovSolver,
        Net,
        RMSPropSolver,
        SGDSolver,
        Timer,
        get_solver,
        has_nccl,
        init_log,
        layer_type_list,
        log,
        set_device,
        set_logging_disabled,
        set_mode_cpu,
        set_mode_gpu,
        set_multiprocess,
        set_random_seed,
        set_solver_count,
        set_solver_rank,
        solver_count,
        solver_rank,
    )

# The version whose interface this is; scripts ask for it.
__version__ = "1.0.0"

_CORE = (
    *("Net", "SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver"),
    *("AdamSolver", "NCCL", "Timer", "Layer", "get_solver", "layer_type_list", "has_nccl"),
    *("set_mode_cpu", "set_mode_gpu", "set_device", "set_random_seed", "solver_count"),
    *("set_solver_count", "solver_rank", "set_solver_rank", "set_multiprocess", "init_log", "log"),
    "set_logging_disabled",
)
_MODULES = {
    **dict.fromkeys(_CORE, "_caffe"),
    "Classifier": "classifier",
    "Detector": "detector",
    "NetSpec": "net_spec",
    "layers": "net_spec",
    "params": "net_spec",
    "to_proto": "net_spec",
}
_SUBMODULES = (
    *("_caffe", "classifier", "coord_map", "detector", "draw", "io", "net_spec", "proto"),
    "pycaffe",
)

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "__version__",
    "classifier",
    "coord_map",
    "detector",
    "draw",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "proto",
    "pycaffe",
    "set_device",
    "set_logging_disabled",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'caffe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_SUBMODULES})
