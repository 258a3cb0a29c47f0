"""Kinds of layers, by which they are coloured."""

from __future__ import annotations

from caffecompat.layers import Layer, Source
from caffecompat.layers._broadcasting import Broadcasting
from caffecompat.layers.batch_norm import BatchNorm
from caffecompat.layers.concat import Concat
from caffecompat.layers.convolution import BaseConvolution
from caffecompat.layers.lrn import LRN
from caffecompat.layers.mvn import MVN
from caffecompat.layers.pooling import Pooling
from caffecompat.layers.prelu import PReLU
from caffecompat.layers.softmax import Softmax
from caffecompat.layers.spp import SPP

UNKNOWN = "unknown"

# Key -> words of the legend, in its order.
KINDS = {
    "data": "data",
    "convolution": "convolution",
    "product": "inner product, recurrent",
    "pooling": "pooling",
    "activation": "activation",
    "normalisation": "normalisation, scale",
    "join": "sum, concatenation",
    "loss": "loss",
    "score": "score, output",
    "other": "shape and other",
    UNKNOWN: "cannot be built",
}

_BY_CLASS: tuple[tuple[str, tuple[type[Layer], ...]], ...] = (
    ("data", (Source,)),
    ("convolution", (BaseConvolution,)),
    ("pooling", (Pooling, SPP)),
    ("normalisation", (BatchNorm, Broadcasting, LRN, MVN)),
    ("activation", (PReLU, Softmax)),
    ("join", (Concat,)),
)


def kind_of(layer: type[Layer] | None) -> str:
    """The kind of a layer type, None for an unknown one.

    What :data:`_BY_CLASS` does not say follows from what the class states.
    """
    if layer is None:
        return UNKNOWN
    for kind, classes in _BY_CLASS:
        if issubclass(layer, classes):
            return kind
    if layer.is_loss:
        return "loss"
    if layer.multiply_adds is not Layer.multiply_adds or len(layer.parameters) > 1:
        return "product"
    if layer.tops.max == 0 or (not any(layer.differentiable) and not layer.pointwise):
        return "score"
    if layer.bottoms.max == 0:
        return "data"
    if layer.pointwise:
        several = layer.bottoms.max is None or layer.bottoms.max > 1
        return "join" if several else "activation"
    return "other"
