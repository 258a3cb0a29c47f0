"""Conversion between weights by layer and position, and arrays by name as in state dicts.

Names depend on the layer types, which this package does not know; callers pass a :class:`Naming`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffecompat.errors import FormatError, WeightsError
from caffecompat.weights.blob_shapes import current_shape
from caffecompat.weights.weights import LayerWeights, Weights


@dataclass(frozen=True)
class NamedArrays:
    """The content of a state dict.

    Attributes:
        arrays: float32 arrays by full name ("conv1_1.weight"), in file order.
        table: the layers behind the names as JSON, written by :func:`flatten`; None in files of
            other programs.
        stored: the number type of each array in the file.
        metadata: as in :class:`Weights`.
    """

    arrays: dict[str, np.ndarray]
    table: str | None = None
    stored: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Naming:
    """The naming scheme of a state dict.

    Attributes:
        names: gives the full names of a layer's blobs, one per blob, unique in the net.
        layer: gives a layer's name for the part of an array's name before the last dot, in state
            dicts of other programs.
    """

    names: Callable[[LayerWeights], Sequence[str]]
    layer: Callable[[str], str] = str


def flatten(weights: Weights, naming: Naming) -> NamedArrays:
    """The arrays of ``weights`` by name. Among layers of one name the last is used, as in Caffe.

    Blobs with the legacy four sizes get their current shape; gradients are left out.

    Raises:
        WeightsError: the numbers of names and blobs of a layer differ, or two blobs get the same
            name.
    """
    arrays: dict[str, np.ndarray] = {}
    rows = []
    for layer in weights.values():
        names = list(naming.names(layer))
        if len(names) != len(layer.blobs):
            raise WeightsError(
                f"layer {layer.name!r} ({layer.type}) has {len(layer.blobs)} blobs, but "
                f"{len(names)} names: {', '.join(names)}"
            )
        for name, blob in zip(names, current_blobs(layer), strict=True):
            if name in arrays:
                raise WeightsError(
                    f"layer {layer.name!r} ({layer.type}): another array has the name {name!r}; "
                    "rename the layer"
                )
            arrays[name] = blob
        rows.append([layer.name, layer.type, names])
    table = json.dumps({"net": weights.net_name, "layers": rows})
    return NamedArrays(arrays, table, metadata=weights.metadata)


def gather(named: NamedArrays, naming: Naming | None, path: str) -> Weights:
    """The inverse of :func:`flatten`.

    If the file has a table, it gives layers, types and order. Otherwise the part of an array's
    name before the last dot gives its layer, and a layer's blobs are in file order.

    Raises:
        FormatError: an array's name has no dot, or the table is damaged.
    """
    remaining = dict(named.arrays)
    net_name, layers = "", []
    if named.table is not None:
        net_name, rows = _parse_table(named.table, path)
        for name, kind, array_names in rows:
            present = [n for n in array_names if n in remaining]
            layer = LayerWeights(name, kind, [remaining.pop(n) for n in present])
            layer.stored = [named.stored.get(n, "float32") for n in present]
            layers.append(layer)
    others: dict[str, LayerWeights] = {}
    for array_name, array in remaining.items():
        module = array_name.rpartition(".")[0]
        if not module:
            raise FormatError(
                f"{path}: the name of array {array_name!r} has no layer; expected layer.array "
                "(conv1.weight)"
            )
        name = naming.layer(module) if naming else module
        other = others.setdefault(name, LayerWeights(name))
        other.blobs.append(array)
        other.stored.append(named.stored.get(array_name, "float32"))
    for layer in others.values():
        layer.legacy = [False] * len(layer.blobs)
    weights = Weights([*layers, *others.values()], net_name, path)
    weights.metadata = dict(named.metadata)
    return weights


def current_blobs(layer: LayerWeights) -> list[np.ndarray]:
    """The layer's blobs; those with the legacy four sizes are reshaped to their current shape."""
    return [
        blob.reshape(current_shape(layer.type, index, blob.shape)) if legacy else blob
        for index, (blob, legacy) in enumerate(zip(layer.blobs, layer.legacy, strict=True))
    ]


def _parse_table(table: str, path: str) -> tuple[str, list[tuple[str, str, list[str]]]]:
    try:
        content: Any = json.loads(table)
        rows = [
            (str(name), str(kind), [str(array) for array in arrays])
            for name, kind, arrays in content["layers"]
        ]
        return str(content["net"]), rows
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"{path}: its table of layers is damaged: {error!r}") from error
