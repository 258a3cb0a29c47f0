"""Caffe's HDF5 weights: ``/data/<layer>/<index>`` and, with gradients, ``/diff``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffecompat.errors import FormatError, WeightsError
from caffecompat.weights.array_names import current_blobs
from caffecompat.weights.blob_shapes import MAX_AXES
from caffecompat.weights.file_type import SNAPSHOT_HINT, SOLVER_STATE
from caffecompat.weights.format import LayerFormat, formats
from caffecompat.weights.hdf5_input.hdf5_file import (
    SIGNATURE,
    Group,
    HDF5File,
    create_hdf5,
    indices,
    numbered,
    open_hdf5,
)
from caffecompat.weights.weights import LayerWeights, Weights, as_float32


@formats.register("hdf5")
class Hdf5(LayerFormat):
    """``.caffemodel.h5``: names, blobs and gradients; types and wiring are not stored.

    Layers are in order of name, as HDF5 lists them. Blobs with the legacy four sizes are written
    in their current shape, because Caffe compares shapes of HDF5 files exactly. Caffe leaves out
    the parameters that a layer shares with an earlier one; such layers have ``indices``, or no
    blobs.
    """

    suffixes = (".h5", ".hdf5")
    max_axes = MAX_AXES
    keeps_indices = True

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.startswith(SIGNATURE)

    def read(self, path: Path) -> Weights:
        with open_hdf5(path, self.max_bytes) as file:
            if "data" not in file:
                raise FormatError(
                    f"{path}: this is an HDF5 file without a group 'data', {_kind(file)}"
                )
            has_diffs = "diff" in file
            layers = [_read_layer(file, name, has_diffs) for name in file.members("data")]
        return Weights(layers, path=str(path), format="hdf5")

    def write(self, weights: Weights, path: Path) -> None:
        for name in weights:
            if "/" in name or name in ("", ".") or not name.isprintable():
                raise WeightsError(
                    f"{path}: layer {name!r} cannot be a group of an HDF5 file; rename the layer "
                    "or write a .caffemodel"
                )
        with create_hdf5(path) as file:
            data = file.create_group("data")
            for layer in weights.values():
                group = data.create_group(layer.name)
                _write_arrays(group, current_blobs(layer), layer, leave_out=layer.shared)
            if any(layer.diffs for layer in weights.values()):
                diff = file.create_group("diff")
                for layer in weights.values():
                    _write_arrays(diff.create_group(layer.name), _current_diffs(layer), layer)


def _read_layer(file: HDF5File, name: str, has_diffs: bool) -> LayerWeights:
    numbers = indices(file, f"data/{name}")
    blobs, stored = [], []
    for number in numbers:
        values = file.read(f"data/{name}/{number}")
        stored.append(values.dtype.newbyteorder("=").name)
        blobs.append(as_float32(values))
    has_diffs = has_diffs and f"diff/{name}" in file
    diffs = numbered(file, f"diff/{name}") if has_diffs else []
    # A shared parameter has its gradient in every layer, but its values only in its owner.
    complete = [d.shape for d in diffs] == [b.shape for b in blobs] and bool(blobs)
    return LayerWeights(
        name,
        blobs=blobs,
        diffs=diffs if complete else None,
        stored=stored,
        indices=None if numbers == list(range(len(numbers))) else numbers,
    )


def _kind(file: HDF5File) -> str:
    if "iter" in file and "history" in file:
        return f"it is {SOLVER_STATE}; {SNAPSHOT_HINT}"
    found = ", ".join(file.members()[:5]) or "nothing"
    return f"expected /data/<layer>/<index>; it has {found}"


def _current_diffs(layer: LayerWeights) -> list[np.ndarray]:
    pairs = zip(layer.diffs or (), current_blobs(layer), strict=False)
    return [diff.reshape(blob.shape) for diff, blob in pairs]


def _write_arrays(
    group: Group,
    arrays: list[np.ndarray],
    layer: LayerWeights,
    leave_out: frozenset[int] = frozenset(),
) -> None:
    indices = layer.indices or range(len(arrays))
    for position, (index, array) in enumerate(zip(indices, arrays, strict=True)):
        if position in leave_out:
            continue
        group.create_dataset(str(index), data=as_float32(array))
