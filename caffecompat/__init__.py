"""caffecompat: Caffe models on PyTorch.

Reads prototxts, caffemodels, solver states and LMDBs, runs and trains the nets on PyTorch with
Caffe's numbers, and converts them. The names below are the stable interface. Each is imported when
it is first used, so that importing the package takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caffecompat.data.tools.write_database import write_database
    from caffecompat.errors import CaffeError
    from caffecompat.graph import TEST, TRAIN
    from caffecompat.layers import register
    from caffecompat.net import Net
    from caffecompat.proto import read_net, read_solver
    from caffecompat.pycaffe.running.installing import install_as_caffe
    from caffecompat.solver import Solver
    from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights

__version__ = "0.1.0"

_MODULES = {
    "CaffeError": "caffecompat.errors",
    "LayerWeights": "caffecompat.weights",
    "Net": "caffecompat.net",
    "Solver": "caffecompat.solver",
    "TEST": "caffecompat.graph",
    "TRAIN": "caffecompat.graph",
    "Weights": "caffecompat.weights",
    "install_as_caffe": "caffecompat.pycaffe.running.installing",
    "load_weights": "caffecompat.weights",
    "read_net": "caffecompat.proto",
    "read_solver": "caffecompat.proto",
    "register": "caffecompat.layers",
    "save_weights": "caffecompat.weights",
    "write_database": "caffecompat.data.tools.write_database",
}

__all__ = [
    "TEST",
    "TRAIN",
    "CaffeError",
    "LayerWeights",
    "Net",
    "Solver",
    "Weights",
    "install_as_caffe",
    "load_weights",
    "read_net",
    "read_solver",
    "register",
    "save_weights",
    "write_database",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'caffecompat' has no attribute {name!r}{_hint(name)}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def _hint(name: str) -> str:
    if name.startswith("_") or name not in dir(importlib.import_module("caffecompat.pycaffe")):
        return ""
    return (
        "; it belongs to pycaffe's interface: write 'import caffecompat.pycaffe as caffe' and "
        f"caffe.{name}"
    )


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
