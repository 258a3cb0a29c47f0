"""Weights under torchvision's names, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from caffecompat.errors import WeightsError
from caffecompat.export.layouts.base import NORM, Operation
from caffecompat.export.model import CaffeModel
from caffecompat.export.torchvision.match import Match, find_architecture
from caffecompat.export.torchvision.net_operations import net_operations
from caffecompat.net.definition import Definition
from caffecompat.weights import LayerWeights, Weights
from caffecompat.weights.array_names import NamedArrays, current_blobs

LAYOUT = "layout"
TORCHVISION = "torchvision"
# What state dicts have beside the parameters of the net that is used: counters of batches, and the
# branches that only training has.
UNUSED_ENDING, UNUSED_PREFIX = ".num_batches_tracked", "aux"
MOST_SHOWN = 5


def to_torchvision(model: CaffeModel) -> tuple[NamedArrays, str]:
    """The model's weights under torchvision's names, and the name of the architecture there.

    BatchNorm's sums are divided by their factor, and Scale's values become the weight and bias of
    the same module.

    Raises:
        ExportError: the net differs from all architectures of torchvision that are known.
        WeightsError: a layer has no weights.
    """
    match = _match(model.definition, model.path)
    arrays: dict[str, np.ndarray] = {}
    order = {layer.name: index for index, layer in enumerate(model.definition.message.layer)}
    for expected, found in sorted(match.pairs, key=lambda pair: order[pair[1].name]):
        blobs = _blobs(model.weights, found.name)
        if expected.kind == NORM:
            arrays |= _norm_arrays(expected.name, blobs, _scale_blobs(model.weights, found))
        else:
            names = (f"{expected.name}.weight", f"{expected.name}.bias")
            arrays |= zip(names, blobs, strict=False)
    metadata = {**model.weights.metadata, LAYOUT: TORCHVISION}
    return NamedArrays(arrays, metadata=metadata), match.architecture.name


def from_torchvision(
    named: NamedArrays, definition: Definition, path: str
) -> tuple[Weights, str, list[str]]:
    """The weights of a Caffe net from a state dict of torchvision's net.

    Returns:
        The weights, the name of the architecture, and the names that were not needed.

    Raises:
        ExportError: the definition differs from all architectures that are known.
        WeightsError: arrays are missing or too many.
    """
    match = _match(definition, path)
    left = dict(named.arrays)
    layers: list[LayerWeights] = []
    missing: list[str] = []
    for expected, found in match.pairs:
        layers += _layers(expected, found, _Taken(left, missing, expected.name))
    if missing:
        raise WeightsError(
            f"{path}: has no {_some(missing)}, which torchvision's {match.architecture.name} has; "
            "is it the state dict of that net?"
        )
    extra = [name for name in left if not _is_unused(name)]
    if extra:
        raise WeightsError(
            f"{path}: has {_some(extra)}, which torchvision's {match.architecture.name} has not; "
            "is the prototxt that of another net?"
        )
    weights = Weights(_in_net_order(layers, definition), definition.message.name, path)
    weights.metadata = {key: text for key, text in named.metadata.items() if key != LAYOUT}
    return weights, match.architecture.name, list(left)


def _match(definition: Definition, path: str) -> Match:
    return find_architecture(net_operations(definition, path), path)


def _blobs(weights: Weights, name: str) -> list[np.ndarray]:
    if name not in weights or not weights[name].blobs:
        raise WeightsError(f"{weights.path}: layer {name!r} has no weights")
    return current_blobs(weights[name])


def _scale_blobs(weights: Weights, found: Operation) -> list[np.ndarray]:
    return _blobs(weights, found.scale) if found.scale else []


def _norm_arrays(
    name: str, statistics: list[np.ndarray], scale: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """Weight, bias, running_mean and running_var of one module.

    As in Caffe the sums are multiplied with the inverse of the factor, and 0 means 0.
    """
    mean, variance, factor = statistics
    inverse = np.float32(1) / factor.flat[0] if factor.flat[0] else np.float32(0)
    return {
        f"{name}.weight": scale[0] if scale else np.ones_like(mean),
        f"{name}.bias": scale[1] if len(scale) > 1 else np.zeros_like(mean),
        f"{name}.running_mean": mean * inverse,
        f"{name}.running_var": variance * inverse,
    }


class _Taken:
    """Takes the arrays of one module out of those that are left, and notes what is missing."""

    def __init__(self, left: dict[str, np.ndarray], missing: list[str], module: str) -> None:
        self._left, self._missing, self._module = left, missing, module

    def __call__(self, name: str) -> np.ndarray:
        key = f"{self._module}.{name}"
        if key not in self._left:
            self._missing.append(key)
            return np.zeros(0, np.float32)
        return self._left.pop(key)


def _layers(expected: Operation, found: Operation, take: _Taken) -> list[LayerWeights]:
    if expected.kind != NORM:
        names = ["weight"] if expected.settings.get("bias") is False else ["weight", "bias"]
        return [LayerWeights(found.name, "", [take(name) for name in names])]
    statistics = [take("running_mean"), take("running_var"), np.ones(1, np.float32)]
    scale = [take("weight"), take("bias")]
    layers = [LayerWeights(found.name, "BatchNorm", statistics)]
    if found.scale:
        layers.append(LayerWeights(found.scale, "Scale", scale))
    elif (scale[0] != 1).any() or scale[1].any():
        raise WeightsError(
            f"layer {found.name!r}: torchvision's {expected.name} scales its values, so the "
            "prototxt needs a Scale layer with bias_term: true behind this BatchNorm"
        )
    return layers


def _in_net_order(layers: list[LayerWeights], definition: Definition) -> list[LayerWeights]:
    """The layers as the definition lists them, with its types."""
    by_name: Mapping[str, LayerWeights] = {layer.name: layer for layer in layers}
    ordered = []
    for message in definition.message.layer:
        if message.name in by_name:
            layer = by_name[message.name]
            layer.type = message.type
            if message.type == "Scale" and not message.scale_param.bias_term:
                if layer.blobs[1].any():
                    raise WeightsError(
                        f"layer {layer.name!r} (Scale): torchvision's module has a bias, so it "
                        "needs scale_param { bias_term: true }"
                    )
                layer.blobs, layer.legacy = layer.blobs[:1], [False]
            ordered.append(layer)
    return ordered


def _is_unused(name: str) -> bool:
    return name.endswith(UNUSED_ENDING) or name.startswith(UNUSED_PREFIX)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more
