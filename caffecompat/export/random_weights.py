"""Random weights that keep the magnitude of blobs, as those of trained nets do."""

from __future__ import annotations

import zlib

import numpy as np

from caffecompat.net import Net
from caffecompat.weights import Weights

# Parameters that are near 1, and those that are 1 or more.
FACTORS, POSITIVE, ONES = ("scale", "slope"), ("variance",), ("scale_factor", "correction")


def random_weights(net: Net) -> Weights:
    """Weights for a net; they depend on the names of layers only.

    Filters are normal with variance 2 / fan-in, variances of BatchNorm positive, its factor 1.
    """
    weights = net.to_weights()
    names = {b.name: b.module.layer.specs for b in net.layers if b.module is not None}
    for layer in weights.layers:
        for index, blob in enumerate(layer.blobs):
            seed = zlib.crc32(f"{layer.name}/{index}".encode("utf-8", "surrogatepass"))
            normal = np.random.default_rng(seed).normal(size=blob.shape).astype(np.float32)
            name = names[layer.name][index].name
            factor = layer.type == "Scale" and name == "weight"
            layer.blobs[index] = _scaled("scale" if factor else name, normal)
    return weights


def _scaled(name: str, normal: np.ndarray) -> np.ndarray:
    if name in ONES:
        return np.ones_like(normal)
    if name in POSITIVE:
        return np.asarray(1 + 0.1 * abs(normal), np.float32)
    if name in FACTORS:
        return np.asarray(1 + 0.1 * normal, np.float32)
    if normal.ndim < 2 or normal.size == normal.shape[1]:
        return normal * np.float32(0.1)
    return normal * np.float32(np.sqrt(2 / np.prod(normal.shape[1:])))
