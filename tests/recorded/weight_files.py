"""Caffe's rules for copying a weight file into a net, and what it did with recorded files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import CaffeError, WeightsError
from caffecompat.weights import Weights, load_weights, match_shape

# A layer that shares its parameters need not have any in an HDF5 file.
SHARING = {"ip1_p"}


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def parameters(path: Path) -> dict[str, list[np.ndarray]]:
    """``param/<layer>/<index>`` of a recorded npz, by layer; "__" stands for "/" in names."""
    by_layer: dict[str, list[np.ndarray]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, *rest = key.split("/")
            if kind == "param":
                by_layer.setdefault(rest[0].replace("__", "/"), []).append(arrays[key])
    return by_layer


def copy_into(net: dict[str, list[np.ndarray]], weights: Weights) -> dict[str, list[np.ndarray]]:
    """What a net with the parameters ``net`` would hold after loading ``weights``.

    Only layers that the file touches are in the result.
    """
    hdf5 = weights.path.endswith(".h5")
    copied = {}
    for layer in weights.layers:
        wanted = net.get(layer.name, [])
        if layer.name not in net or (hdf5 and not layer.blobs and layer.name in SHARING):
            continue
        if len(layer.blobs) != len(wanted):
            raise WeightsError(f"{layer.name}: {len(layer.blobs)} blobs for {len(wanted)}")
        pairs = zip(layer.blobs, layer.legacy, wanted, strict=True)
        fitted = [match_shape(blob, legacy, target.shape) for blob, legacy, target in pairs]
        if any(array is None for array in fitted):
            raise WeightsError(f"{layer.name}: shapes differ")
        copied[layer.name] = [array for array in fitted if array is not None]
    return copied


def differences(folder: Path, case: dict[str, Any]) -> list[str]:
    """How loading one recorded file here differs from what Caffe did; empty if it does not."""
    net = parameters(folder / "io.npz")
    name = case["file"]
    try:
        copied = copy_into(net, load_weights(folder / name))
    except CaffeError as error:
        return [f"{name}: Caffe loads it, here: {error}"] if case["loads"] else []
    if not case["loads"]:
        return [f"{name}: Caffe refuses it ({case.get('what')}), here it loads"]
    expected = parameters(folder / case["loaded"]) if "loaded" in case else net
    wrong = [
        f"{name}: {layer}/{index} differs"
        for layer, arrays in copied.items()
        for index, array in enumerate(arrays)
        if array.tobytes() != expected[layer][index].tobytes()
    ]
    untouched = set(net) - set(copied) - SHARING
    silent = [layer for layer in untouched if "loaded" not in case]
    return wrong + [f"{name}: {layer} was not loaded" for layer in silent]
