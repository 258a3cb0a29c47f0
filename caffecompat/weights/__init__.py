"""Weight files, solver states and mean files; :class:`Weights` is the form of all formats."""

from __future__ import annotations

from caffecompat.weights.array_names import Naming
from caffecompat.weights.blob_shapes import match_shape
from caffecompat.weights.files import load_weights, save_weights
from caffecompat.weights.mean import read_mean, write_mean
from caffecompat.weights.nvcaffe import to_bvlc_batch_norm
from caffecompat.weights.solverstate import SolverState, read_state, write_state
from caffecompat.weights.weights import LayerWeights, Weights

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
