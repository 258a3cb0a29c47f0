"""Weight files, solver states and mean files; :class:`Weights` is the form of all formats.

The names below are imported when they are first used, since most of their modules need numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.first_use import names_at_first_use

if TYPE_CHECKING:
    from caffecompat.weights.array_names import Naming
    from caffecompat.weights.blob_shapes import match_shape
    from caffecompat.weights.files import load_weights, save_weights
    from caffecompat.weights.mean_file import read_mean, write_mean
    from caffecompat.weights.nvcaffe import to_bvlc_batch_norm
    from caffecompat.weights.solverstate import SolverState, read_state, write_state
    from caffecompat.weights.weights import LayerWeights, Weights

_MODULES = {
    "LayerWeights": "caffecompat.weights.weights",
    "Naming": "caffecompat.weights.array_names",
    "SolverState": "caffecompat.weights.solverstate",
    "Weights": "caffecompat.weights.weights",
    "load_weights": "caffecompat.weights.files",
    "match_shape": "caffecompat.weights.blob_shapes",
    "read_mean": "caffecompat.weights.mean_file",
    "read_state": "caffecompat.weights.solverstate",
    "save_weights": "caffecompat.weights.files",
    "to_bvlc_batch_norm": "caffecompat.weights.nvcaffe",
    "write_mean": "caffecompat.weights.mean_file",
    "write_state": "caffecompat.weights.solverstate",
}

__all__ = [
    "LayerWeights",
    "Naming",
    "SolverState",
    "Weights",
    "load_weights",
    "match_shape",
    "read_mean",
    "read_state",
    "save_weights",
    "to_bvlc_batch_norm",
    "write_mean",
    "write_state",
]


__getattr__ = names_at_first_use(__name__, _MODULES)
