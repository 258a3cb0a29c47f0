"""Arrays by name, as state dicts hold them, and back to layers and positions.

The names belong to the layer types, which this room does not know: callers give a Naming.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffecompat.errors import FormatError, WeightsError
from caffecompat.weights.blob_shapes import todays_shape
from caffecompat.weights.weights import LayerWeights, Weights


@dataclass(frozen=True)
class NamedArrays:
    """What a state dict holds: float32 arrays by full name ("conv1_1.weight"), in order.

    ``table`` is our own note about the layers behind the names (JSON), or None in a file of
    somebody else; ``stored`` says of which type the numbers are in the file.
    """

    arrays: dict[str, np.ndarray]
    table: str | None = None
    stored: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Naming:
    """How layers and blobs are called in a state dict.

    Attributes:
        names: the full names for the blobs of a layer, one per blob, unique in the net.
        layer: the layer's name from the part of an array's name before the last dot, for state
            dicts that were not written here.
    """

    names: Callable[[LayerWeights], Sequence[str]]
    layer: Callable[[str], str] = str


def flatten(weights: Weights, naming: Naming) -> NamedArrays:
    """The arrays of ``weights`` by name. Of layers with one name the last counts, as in Caffe.

    Blobs with old sizes get today's shape; gradients are left out.

    Raises:
        WeightsError: a layer's names are not as many as its blobs, or two blobs get the same one.
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
        for name, blob in zip(names, todays_blobs(layer), strict=True):
            if name in arrays:
                raise WeightsError(
                    f"layer {layer.name!r} ({layer.type}): a second array would be called {name!r};"
                    " rename the layer"
                )
            arrays[name] = blob
        rows.append([layer.name, layer.type, names])
    return NamedArrays(arrays, json.dumps({"net": weights.net_name, "layers": rows}))


def gather(named: NamedArrays, naming: Naming | None, path: str) -> Weights:
    """Layers from arrays by name.

    Where the file has our table, layers, types and order are those that were written. Otherwise
    an array belongs to the layer that its name up to the last dot says, and a layer's blobs are
    in file order.
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
                f"{path}: array {array_name!r} names no layer; names are layer.array (conv1.weight)"
            )
        name = naming.layer(module) if naming else module
        other = others.setdefault(name, LayerWeights(name))
        other.blobs.append(array)
        other.stored.append(named.stored.get(array_name, "float32"))
    for layer in others.values():
        layer.legacy = [False] * len(layer.blobs)
    return Weights([*layers, *others.values()], net_name, path)


def todays_blobs(layer: LayerWeights) -> list[np.ndarray]:
    """The layer's blobs, those with the old four sizes in the shape that they have today."""
    return [
        blob.reshape(todays_shape(layer.type, index, blob.shape)) if legacy else blob
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
