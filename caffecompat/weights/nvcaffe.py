"""Conversion of NVCaffe's BatchNorm with scale and bias to BVLC's BatchNorm and Scale."""

from __future__ import annotations

import numpy as np

from caffecompat.errors import WeightsError
from caffecompat.weights.weights import LayerWeights, Weights

NVCAFFE = "NVCaffe"
MEAN, VARIANCE, FACTOR, SCALE, BIAS = range(5)
# The suffix of the new layer's name; the net definition must use the same name.
SCALE_SUFFIX = "_scale"


def is_nvcaffe(layer: LayerWeights, type_in_net: str = "") -> bool:
    """Whether a layer is a BatchNorm with five blobs, which only NVCaffe writes.

    Args:
        type_in_net: type of the net's layer of this name, as weight files need not state types.
    """
    return "BatchNorm" in (layer.type, type_in_net) and len(layer.blobs) == BIAS + 1


def to_bvlc_batch_norm(weights: Weights) -> Weights:
    """The same weights with each five-blob BatchNorm split into BatchNorm and Scale, as in BVLC.

    NVCaffe's blobs are mean, variance, correction (one value, which its forward pass ignores),
    scale and bias; all but the correction have one value per channel. The statistics get the
    factor 1, and a new layer ``<name>_scale`` after it gets scale and bias. A BatchNorm of three
    blobs with factor 0 and statistics other than 0, which BVLC never writes, also gets the
    factor 1. Source: NVCaffe's BatchNorm layer.

    Raises:
        WeightsError: a layer's five blobs have another layout (as before NVCaffe 0.16), or the
            name of the new Scale layer is taken.
    """
    result = Weights([], weights.net_name, weights.path, weights.format)
    result.generation = weights.generation
    for layer in weights.layers:
        if is_nvcaffe(layer):
            result.layers += _split(layer, weights)
        elif layer.type == "BatchNorm" and _has_lost_factor(layer):
            mean, variance, factor = layer.blobs
            result.layers.append(_batch_norm(layer, [mean, variance, np.ones_like(factor)]))
        else:
            result.layers.append(layer)
    return result


def _split(layer: LayerWeights, weights: Weights) -> list[LayerWeights]:
    who = f"{weights.path or 'weights'}: layer {layer.name!r} (BatchNorm)"
    counts = [blob.size for blob in layer.blobs]
    channels = counts[MEAN]
    if counts != [channels, channels, 1, channels, channels]:
        raise WeightsError(
            f"{who}: its five blobs have {', '.join(map(str, counts))} values; NVCaffe's layout is "
            "mean, variance, one correction, scale and bias; others are not converted"
        )
    name = layer.name + SCALE_SUFFIX
    if name in weights:
        raise WeightsError(f"{who}: its scale would become layer {name!r}, which already exists")
    flat = [blob.reshape(-1) for blob in layer.blobs]
    scale = LayerWeights(
        name, "Scale", flat[SCALE:], bottoms=layer.tops[:1], tops=layer.tops[:1], phase=layer.phase
    )
    return [_batch_norm(layer, [flat[MEAN], flat[VARIANCE], np.ones(1, np.float32)]), scale]


def _batch_norm(layer: LayerWeights, blobs: list[np.ndarray]) -> LayerWeights:
    return LayerWeights(
        layer.name, layer.type, blobs, bottoms=layer.bottoms, tops=layer.tops, phase=layer.phase
    )


def _has_lost_factor(layer: LayerWeights) -> bool:
    if len(layer.blobs) != FACTOR + 1 or layer.blobs[FACTOR].size != 1:
        return False
    statistics = layer.blobs[MEAN].any() or layer.blobs[VARIANCE].any()
    return bool(statistics) and not layer.blobs[FACTOR].any()
