"""Descriptions of weight files, solver states and mean files: their type and their contents."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf, nan, prod
from pathlib import Path

import numpy as np

from caffecompat.reporting.units import counted
from caffecompat.weights.array_names import Naming
from caffecompat.weights.blob_shapes import current_shape
from caffecompat.weights.file_type import SINGLE_ARRAY, SOLVER_STATE, other_file_type
from caffecompat.weights.files import load_weights
from caffecompat.weights.format import HEAD_BYTES, formats
from caffecompat.weights.hdf5_input.hdf5_file import SIGNATURE, open_hdf5
from caffecompat.weights.mapped import read_head, release_pages
from caffecompat.weights.mean_file import read_mean
from caffecompat.weights.solverstate import SolverState, read_state
from caffecompat.weights.weights import LayerWeights, Weights

WEIGHTS, STATE, MEAN, OTHER = "weights", "solver state", "mean", "other"
TITLES = {
    "caffemodel": "caffemodel",
    "hdf5": "HDF5 weights",
    "npz": "NumPy archive",
    "safetensors": "safetensors",
    "torch": "torch state dict",
}
# Values processed at a time, which bounds the memory that a mapped file takes.
PIECE = 1 << 20


@dataclass(frozen=True)
class ValueStatistics:
    """Statistics of one array.

    ``minimum``, ``mean`` and ``maximum`` ignore NaNs; they are NaN if there are no other values.
    ``nans`` is the number of NaNs.
    """

    minimum: float
    mean: float
    maximum: float
    nans: int


@dataclass(frozen=True)
class BlobEntry:
    """One array.

    Attributes:
        shape: its current shape.
        legacy: the legacy four sizes, if the file has them.
        stored: the number type in the file ("float32").
        values: statistics, if they were requested.
    """

    shape: tuple[int, ...]
    legacy: tuple[int, ...] | None
    stored: str
    values: ValueStatistics | None = None


@dataclass(frozen=True)
class LayerEntry:
    """One layer of a weight file."""

    name: str
    type: str
    blobs: list[BlobEntry]

    @property
    def parameters(self) -> int:
        return sum(prod(blob.shape) for blob in self.blobs)


@dataclass
class Description:
    """The type and the contents of a file.

    Attributes:
        kind: ``"weights"``, ``"solver state"`` or ``"mean"``.
        title: the file type in words ("caffemodel, generation V1").
        net_name: the net's name in the file.
        layers: the layers of a weight file, in file order.
        facts: other properties, as (name, value).
        arrays: the history of a solver state, or the mean image.
    """

    kind: str
    title: str
    net_name: str = ""
    layers: list[LayerEntry] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    arrays: list[BlobEntry] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Number of values in all blobs; among layers of one name the last counts."""
        return sum(layer.parameters for layer in {e.name: e for e in self.layers}.values())


def file_kind(path: str | os.PathLike[str]) -> str:
    """The kind of a file by its first bytes: WEIGHTS, STATE, MEAN or OTHER.

    Raises:
        FileProblem, FormatError: missing, unreadable or empty.
    """
    path = Path(path)
    head = read_head(path, HEAD_BYTES)
    if head.startswith(SIGNATURE):
        with open_hdf5(path) as file:
            return STATE if "iter" in file and "history" in file else WEIGHTS
    if any(formats.find(name)().sniff(head, path) for name in formats):
        return WEIGHTS
    kind = other_file_type(head, path)
    if kind == SOLVER_STATE:
        return STATE
    return MEAN if kind == SINGLE_ARRAY else OTHER


def describe_file(
    path: str | os.PathLike[str],
    values: bool = False,
    naming: Naming | None = None,
    max_bytes: int | None = None,
) -> Description:
    """Describes a weight file, a solver state or a mean file.

    Args:
        path: the file.
        values: whether to compute statistics of all values; pages of a mapped file are released
            as they are processed.
        naming: the naming scheme of state dicts.
        max_bytes: see :func:`caffecompat.weights.load_weights`.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: damaged, or of another type, which the message names.
    """
    kind = file_kind(path)
    if kind == STATE:
        return _describe_state(read_state(path, max_bytes), values)
    if kind == MEAN:
        return _describe_mean(read_mean(path, max_bytes), values)
    return describe_weights(load_weights(path, naming, max_bytes), values)


def describe_weights(weights: Weights, values: bool = False) -> Description:
    """Describes ``weights``; mapped pages are released after their statistics are computed."""
    title = TITLES.get(weights.format, weights.format)
    if weights.generation:
        title += f", generation {weights.generation}"
    if weights.dialect:
        title += f", written by {weights.dialect}"
    layers = [_layer_entry(layer, values) for layer in weights.layers]
    description = Description(WEIGHTS, title, weights.net_name, layers)
    if any(layer.diffs for layer in weights.layers):
        description.facts.append(("gradients", "stored beside the values (snapshot_diff)"))
    return description


def value_statistics(array: np.ndarray) -> ValueStatistics:
    """Minimum, mean and maximum of an array without its NaNs, and the number of NaNs."""
    minimum, maximum, total, nans = inf, -inf, 0.0, 0
    flat = array.reshape(-1)
    for start in range(0, flat.size, PIECE):
        piece = flat[start : start + PIECE]
        low, high = float(piece.min()), float(piece.max())
        if low != low:
            numbers = piece[~np.isnan(piece)]
            nans += piece.size - numbers.size
            low = float(numbers.min()) if numbers.size else inf
            high = float(numbers.max()) if numbers.size else -inf
            total += float(numbers.sum(dtype=np.float64))
        else:
            total += float(piece.sum(dtype=np.float64))
        minimum, maximum = min(minimum, low), max(maximum, high)
        release_pages(piece)
    count = flat.size - nans
    if not count:
        return ValueStatistics(nan, nan, nan, nans)
    return ValueStatistics(minimum, total / count, maximum, nans)


def _layer_entry(layer: LayerWeights, values: bool) -> LayerEntry:
    stored: Iterable[str] = layer.stored or ("float32",) * len(layer.blobs)
    blobs = [
        BlobEntry(
            current_shape(layer.type, index, blob.shape) if legacy else blob.shape,
            blob.shape if legacy else None,
            kind,
            value_statistics(blob) if values else None,
        )
        for index, (blob, legacy, kind) in enumerate(
            zip(layer.blobs, layer.legacy, stored, strict=True)
        )
    ]
    return LayerEntry(layer.name, layer.type, blobs)


def _describe_state(state: SolverState, values: bool) -> Description:
    facts = [
        ("iteration", f"{state.iteration:,}"),
        ("weights", state.learned_net or "none named"),
        ("current_step", str(state.current_step)),
    ]
    if state.random_seed is not None:
        facts.append(("random seed", str(state.random_seed)))
    description = Description(STATE, "solver state", facts=facts)
    description.arrays = [_array_entry(array, values) for array in state.history]
    count = sum(prod(array.shape) for array in state.history)
    description.facts.append(("history", f"{len(state.history)} arrays, {count:,} values"))
    return description


def _describe_mean(mean: np.ndarray, values: bool) -> Description:
    channels, height, width = mean.shape
    each = ", ".join(f"{value_statistics(channel).mean:.6g}" for channel in mean)
    facts = [
        ("image", f"{counted(channels, 'channel')}, {height} high, {width} wide"),
        (
            "channel means",
            each if channels == 1 else f"{each} (in the file's order, for Caffe B, G, R)",
        ),
    ]
    return Description(MEAN, "mean image", facts=facts, arrays=[_array_entry(mean, values)])


def _array_entry(array: np.ndarray, values: bool) -> BlobEntry:
    return BlobEntry(array.shape, None, "float32", value_statistics(array) if values else None)
