"""Nets for B, G, R images turned into nets for R, G, B, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError
from caffecompat.export.model import CaffeModel
from caffecompat.proto.input_layers import input_layers
from caffecompat.weights import LayerWeights, Weights

CHANNELS = 3
SWAPPED = {"BGR": "RGB", "RGB": "BGR"}
LARGEST_VALUE = 255


def rgb_input(model: CaffeModel) -> tuple[CaffeModel, list[str]]:
    """The model with the order of its input's three channels reversed.

    The first layers' weights are reversed along the input channels, and the preprocessing with
    them, so that outputs stay as they are for the reversed image.

    Returns:
        The new model, and lines that explain what its input is now.

    Raises:
        ExportError: something other than a convolution reads the input, or an image that is not of
            three channels; all such layers are named.
    """
    readers = input_readers(model)
    problems = [
        f"{model.path}: layer {layer.name!r} ({layer.type}) reads the input; --rgb needs a "
        "convolution of three channels without groups there"
        for layer in readers
        if not _swappable(layer)
    ]
    if problems or not readers:
        raise ExportError(
            "\n".join(problems)
            or f"{model.path}: --rgb needs an Input layer, and a definition for training has none; "
            "name a deploy definition (--model)"
        )
    names = {layer.name for layer in readers}
    weights = Weights(
        [_swapped(layer) if layer.name in names else layer for layer in model.weights.layers],
        model.weights.net_name,
        model.weights.path,
        model.weights.format,
    )
    weights.metadata = model.weights.metadata
    before = model.preprocessing
    after = None if before is None else swapped_preprocessing(before)
    lines = [f"swapped the input channels of {', '.join(names)}"]
    return replace(model, weights=weights, preprocessing=after), lines + rgb_lines(after)


def swapped_preprocessing(before: Preprocessing) -> Preprocessing:
    """The preprocessing for images whose channels are in the other order."""
    order = SWAPPED.get(before.channel_order, before.channel_order)
    return replace(before, channel_order=order, mean=before.mean[::-1])


def rgb_lines(preprocessing: Preprocessing | None) -> list[str]:
    """What the input is, in words and in torchvision's convention of mean and standard deviation.

    Caffe's nets take values of 0 to 255 minus a mean; torchvision's take (x / 255 - mean) / std.
    """
    if preprocessing is None:
        return ["the input's channels are the other way round now; its mean is not known here"]
    mean = ", ".join(f"{value:g}" for value in preprocessing.mean)
    relative = ", ".join(f"{value / LARGEST_VALUE:.6g}" for value in preprocessing.mean)
    std = 1 / (LARGEST_VALUE * preprocessing.scale)
    order = ", ".join(preprocessing.channel_order)
    return [
        f"the input is {order} from 0 to 255, minus {mean}, times {preprocessing.scale:g}",
        f"with torchvision's ToTensor that is Normalize(mean=[{relative}], std=[{std:.6g}])",
    ]


def input_readers(model: CaffeModel) -> list[LayerWeights]:
    """The layers that read an input of the net, with their weights."""
    message = model.definition.message
    inputs = {top for layer in input_layers(message) for top in layer.top}
    found = []
    for layer in message.layer:
        if inputs & set(layer.bottom):
            known = layer.name in model.weights
            found.append(model.weights[layer.name] if known else LayerWeights(layer.name))
            found[-1].type = found[-1].type or layer.type
    return found


def _swappable(layer: LayerWeights) -> bool:
    if layer.type != "Convolution" or not layer.blobs:
        return False
    return layer.blobs[0].ndim == 4 and layer.blobs[0].shape[1] == CHANNELS


def _swapped(layer: LayerWeights) -> LayerWeights:
    filters = np.ascontiguousarray(layer.blobs[0][:, ::-1])
    return LayerWeights(
        layer.name,
        layer.type,
        [filters, *layer.blobs[1:]],
        legacy=layer.legacy,
        bottoms=layer.bottoms,
        tops=layer.tops,
        phase=layer.phase,
    )
