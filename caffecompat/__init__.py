"""caffecompat: Caffe models on PyTorch.

Reads prototxts, caffemodels, solver states and LMDBs, runs and trains the nets on PyTorch with
Caffe's numbers, and converts them. The names below are the stable interface. Each is imported when
it is first used, so that importing the package takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from caffecompat.first_use import names_at_first_use

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


def _hint(name: str) -> str:
    if name.startswith("_") or name not in dir(importlib.import_module("caffecompat.pycaffe")):
        return ""
    return (
        "; it belongs to pycaffe's interface: write 'import caffecompat.pycaffe as caffe' and "
        f"caffe.{name}"
    )


__getattr__ = names_at_first_use(__name__, _MODULES, _hint)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
