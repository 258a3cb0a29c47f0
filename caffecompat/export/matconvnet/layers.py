"""Layers of MatConvNet in one form, whether a file has SimpleNN or DagNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.weights.weights import as_float32

CONV, POOL, RELU, SIGMOID, SOFTMAX = "conv", "pool", "relu", "sigmoid", "softmax"
LRN, BNORM, DROPOUT, CONCAT, SUM, LOSS = "lrn", "bnorm", "dropout", "concat", "sum", "loss"
CONVT, CROP, ROIPOOL = "convt", "crop", "roipool"

# A kernel, stride or pad; far more than any image has.
LARGEST_EXTENT = 1 << 16

# SimpleNN's names of types, and DagNN's, that mean the same.
SIMPLE_TYPES = {"normalize": LRN, "softmaxloss": SOFTMAX}
DAG_TYPES = {
    "Conv": CONV,
    "Pooling": POOL,
    "ReLU": RELU,
    "Sigmoid": SIGMOID,
    "SoftMax": SOFTMAX,
    "LRN": LRN,
    "BatchNorm": BNORM,
    "DropOut": DROPOUT,
    "Concat": CONCAT,
    "Sum": SUM,
    "Loss": LOSS,
    "ConvTranspose": CONVT,
    "Crop": CROP,
    "ROIPooling": ROIPOOL,
}


@dataclass
class MatLayer:
    """One layer.

    Attributes:
        name: its name.
        type: SimpleNN's name of its type.
        inputs, outputs: names of variables.
        settings: numbers and words of its struct by SimpleNN's names, defaults filled in.
        arrays: its parameters: filters (H, W, C, K) and biases, of a transposed convolution filters
            (H, W, K / groups, C); multipliers, biases and moments.
    """

    name: str
    type: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    arrays: list[np.ndarray] = field(default_factory=list)


@dataclass
class MatNet:
    """The layers, and the size (H, W, C) of the image that they take."""

    layers: list[MatLayer] = field(default_factory=list)
    size: tuple[int, int, int] = (0, 0, 0)
    input: str = "data"


def read_layers(variables: dict[str, Any], path: Path) -> list[MatLayer]:
    """The layers of a net: of a cell as SimpleNN, of a struct as DagNN.

    Raises:
        FormatError: there are none, or one is not described as MatConvNet does.
    """
    layers = variables.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, (list, dict)) for layer in layers):
        raise FormatError(
            f"{path}: this MAT file has no variable 'layers' of structs, so it is no MatConvNet net"
        )
    try:
        if layers and isinstance(layers[0], dict):
            return _dag(layers, variables.get("params"))
        return [_simple(one(layer), index) for index, layer in enumerate(layers)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise FormatError(
            f"{path}: its layers are not described as MatConvNet does ({error!r:.80})"
        ) from error


def one(value: Any) -> dict[str, Any]:
    """A struct of one element."""
    found: dict[str, Any] = value[0] if isinstance(value, list) else value
    if not isinstance(found, dict):
        raise TypeError("expected a struct")
    return found


def texts(value: Any) -> list[str]:
    """The texts of a cell, or a text alone."""
    values = [value] if isinstance(value, str) else list(value)
    return [str(text) for text in values if isinstance(text, str)]


def numbers(value: Any, count: int) -> tuple[int, ...]:
    """One number for all, or ``count`` of them."""
    flat = np.asarray(value, np.float64).reshape(-1)
    found = tuple(int(n) for n in (np.repeat(flat, count) if flat.size == 1 else flat))
    if len(found) != count or min(found) < 0 or max(found) > LARGEST_EXTENT:
        raise ValueError(f"{flat.tolist()!r:.40}, expected {count} numbers from 0 on")
    return found


def number(value: Any) -> float:
    return float(np.asarray(value, np.float64).reshape(-1)[0])


def _simple(layer: dict[str, Any], index: int) -> MatLayer:
    kind = str(layer["type"])
    arrays = layer.get("weights")
    if not isinstance(arrays, list):
        # Files from before beta17.
        arrays = [layer[key] for key in ("filters", "biases") if key in layer]
    return MatLayer(
        str(layer.get("name") or f"layer{index + 1}"),
        SIMPLE_TYPES.get(kind, kind),
        [f"x{index}"],
        [f"x{index + 1}"],
        settings_of(SIMPLE_TYPES.get(kind, kind), layer),
        [as_float32(np.asarray(array)) for array in arrays],
    )


def _dag(layers: Sequence[dict[str, Any]], params: Any) -> list[MatLayer]:
    values = {str(p["name"]): p["value"] for p in params} if isinstance(params, list) else {}
    found = []
    for layer in layers:
        kind = str(layer["type"]).removeprefix("dagnn.")
        kind = DAG_TYPES.get(kind, kind)
        block = dict(one(layer["block"])) if isinstance(layer.get("block"), list) else {}
        block["pool"] = block.get("poolSize", 1)
        found.append(
            MatLayer(
                str(layer["name"]),
                kind,
                texts(layer["inputs"]),
                texts(layer["outputs"]),
                settings_of(kind, block),
                [as_float32(np.asarray(values[name])) for name in texts(layer["params"])],
            )
        )
    return found


def _conv(layer: dict[str, Any]) -> dict[str, Any]:
    return {
        "pad": numbers(layer.get("pad", 0), 4),
        "stride": numbers(layer.get("stride", 1), 2),
        "dilate": numbers(layer.get("dilate", 1), 2),
    }


def _pool(layer: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": str(layer.get("method", "max")),
        "pool": numbers(layer["pool"], 2),
        "pad": numbers(layer.get("pad", 0), 4),
        "stride": numbers(layer.get("stride", 1), 2),
    }


def _lrn(layer: dict[str, Any]) -> dict[str, Any]:
    values = np.asarray(layer.get("param", (5, 1, 0.0001 / 5, 0.75)), np.float64).reshape(-1)
    size, kappa, alpha, beta = (float(value) for value in values)
    if not 0 < size <= LARGEST_EXTENT:
        raise ValueError(f"a window of {size:g} channels")
    return {"param": (size, kappa, alpha, beta)}


def _convt(layer: dict[str, Any]) -> dict[str, Any]:
    return {
        "upsample": numbers(layer.get("upsample", 1), 2),
        "crop": numbers(layer.get("crop", 0), 4),
        "numGroups": numbers(layer.get("numGroups", 1), 1)[0],
    }


def _roipool(layer: dict[str, Any]) -> dict[str, Any]:
    transform = np.asarray(layer.get("transform", 1), np.float64)
    return {
        "method": str(layer.get("method", "max")),
        "subdivisions": numbers(layer.get("subdivisions", (6, 6)), 2),
        "transform": tuple(float(value) for value in transform.reshape(-1, order="F")),
        "flatten": bool(number(layer.get("flatten", 0))),
    }


_SETTINGS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    CONV: _conv,
    CONVT: _convt,
    CROP: lambda layer: {"crop": numbers(layer.get("crop", 0), 2)},
    ROIPOOL: _roipool,
    POOL: _pool,
    LRN: _lrn,
    CONCAT: lambda layer: {"dim": numbers(layer.get("dim", 3), 1)[0]},
    RELU: lambda layer: {"leak": number(layer.get("leak", 0))},
    BNORM: lambda layer: {"epsilon": number(layer.get("epsilon", 1e-5))},
    DROPOUT: lambda layer: {"rate": number(layer.get("rate", 0.5))},
}


def settings_of(kind: str, layer: dict[str, Any]) -> dict[str, Any]:
    """The settings of a layer's struct, MatConvNet's defaults filled in."""
    return _SETTINGS.get(kind, lambda _: {})(layer)
