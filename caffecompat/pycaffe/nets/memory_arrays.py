"""Arrays as the data of a net's MemoryData layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffecompat.layers import Shape
from caffecompat.layers.memory_data import MemoryData
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.pycaffe.errors import CallError
from caffecompat.reporting.units import format_shape


def set_memory_data(first: BuiltLayer | None, data: Any, labels: Any) -> None:
    """Sets the data of ``first``, the first layer of a net.

    Args:
        data: float32, C-contiguous, rows x channels x height x width; the number of rows is a
            multiple of the batch size.
        labels: float32, C-contiguous, one for each row: (rows,) or (rows, 1, 1, 1).

    Raises:
        CallError: the layer is another one, or the arrays do not fit.
    """
    layer = None if first is None else first.layer
    if not isinstance(layer, MemoryData):
        raise CallError(
            "set_input_arrays may only be called if the first layer is MemoryData; write into "
            "net.blobs[name].data instead"
        )
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        labels = np.ascontiguousarray(labels[:, np.newaxis, np.newaxis, np.newaxis])
    _check("data", data, layer.shape[1:])
    _check("labels", labels, (1, 1, 1))
    if len(data) != len(labels):
        raise CallError(f"there are {len(data)} rows of data, but {len(labels)} labels")
    if len(data) == 0 or len(data) % layer.shape[0]:
        raise CallError(
            f"{len(data)} rows of data were given, expected a multiple of the batch size "
            f"{layer.shape[0]}"
        )
    layer.set(data, labels)


def _check(name: str, array: Any, row: Shape) -> None:
    if not isinstance(array, np.ndarray):
        raise CallError(f"{name} must be a numpy array, found {type(array).__name__}")
    if array.dtype != np.float32:
        raise CallError(f"{name} must be float32, found {array.dtype}; use .astype(np.float32)")
    if array.ndim != 4 or array.shape[1:] != row:
        wanted = f"rowsx{format_shape(row)}"
        raise CallError(f"{name} must be {wanted}, found {format_shape(array.shape)}")
    if not array.flags.c_contiguous:
        raise CallError(f"{name} must be C-contiguous; use np.ascontiguousarray({name})")
