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

# What DataParallel and torch.compile put before all names.
WRAPPERS = ("module.", "_orig_mod.")


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
        order: sorts the last parts of the names of one layer's arrays as its blobs are ordered,
            for such state dicts too; the library safetensors writes them in alphabetical order.
    """

    names: Callable[[LayerWeights], Sequence[str]]
    layer: Callable[[str], str] = str
    order: Callable[[Sequence[str]], Sequence[str]] = list


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


def unwrapped(named: NamedArrays) -> NamedArrays:
    """The arrays by the names that they have in the module that was wrapped by another one."""
    for prefix in WRAPPERS:
        if named.table is None and named.arrays and all(n.startswith(prefix) for n in named.arrays):
            arrays = {name.removeprefix(prefix): array for name, array in named.arrays.items()}
            stored = {name.removeprefix(prefix): kind for name, kind in named.stored.items()}
            return unwrapped(NamedArrays(arrays, None, stored, named.metadata))
    return named


def gather(named: NamedArrays, naming: Naming | None, path: str) -> Weights:
    """The inverse of :func:`flatten`.

    If the file has a table, it gives layers, types and order. Otherwise the part of an array's
    name before the last dot gives its layer, and a layer's blobs are in the order of
    :attr:`Naming.order`, or without a ``naming`` in file order.

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
    others = _layers_by_name(remaining, named.stored, naming, path)
    weights = Weights([*layers, *others], net_name, path)
    weights.metadata = dict(named.metadata)
    return weights


def _layers_by_name(
    arrays: Mapping[str, np.ndarray], stored: Mapping[str, str], naming: Naming | None, path: str
) -> list[LayerWeights]:
    """The layers of a state dict of another program, which says nothing but names."""
    parts: dict[str, dict[str, str]] = {}
    for name in arrays:
        module, _, last = name.rpartition(".")
        if not module:
            raise FormatError(
                f"{path}: the name of array {name!r} has no layer; expected layer.array "
                "(conv1.weight)"
            )
        parts.setdefault(module, {})[last] = name
    layers: dict[str, LayerWeights] = {}
    for module, names in parts.items():
        layer_name = naming.layer(module) if naming else module
        layer = layers.setdefault(layer_name, LayerWeights(layer_name))
        for last in naming.order(list(names)) if naming else names:
            layer.blobs.append(arrays[names[last]])
            layer.stored.append(stored.get(names[last], "float32"))
    for layer in layers.values():
        layer.legacy = [False] * len(layer.blobs)
    return list(layers.values())


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
