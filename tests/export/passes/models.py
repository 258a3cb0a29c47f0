"""Models with random weights that tests of passes rewrite, and what is compared."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import numpy as np
import torch

from caffecompat import Net
from caffecompat.export.model import CaffeModel
from caffecompat.net.definition import Definition, read_definition
from tests.net.nets import message

INPUT = 'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {} }} }} }}\n'


def net_text(shape: tuple[int, ...], *layers: str) -> str:
    """A prototxt: an Input 'data' and layers, each given by the content of its braces."""
    dims = " ".join(f"dim: {extent}" for extent in shape)
    return INPUT.format(dims) + "\n".join(f"layer {{ {layer} }}" for layer in layers)


def random_model(text: str, seed: int = 0, **options: Any) -> CaffeModel:
    """The model of a prototxt with random weights; positive where they are variances."""
    return randomised(read_definition(message(text)), seed, **options)


def randomised(definition: Definition, seed: int = 0, **options: Any) -> CaffeModel:
    """:func:`random_model` of a definition."""
    net = Net(definition, **options)
    generator = np.random.default_rng(seed)
    weights = net.to_weights()
    for layer in weights.layers:
        layer.blobs = [values(generator, layer.type, blob.shape) for blob in layer.blobs]
    return CaffeModel(definition, weights)


def values(generator: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "BatchNorm":
        return generator.uniform(0.5, 2, shape).astype(np.float32)
    fan_in = max(prod(shape[1:]), 1)
    return (generator.standard_normal(shape) / sqrt(fan_in)).astype(np.float32)


def outputs(model: CaffeModel, seed: int = 1, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The outputs for random values of the input 'data', with the definition's or another shape."""
    net = model.net() if model.weights.layers else Net(model.definition)
    generator = torch.Generator().manual_seed(seed)
    shape = shapes.get("data", tuple(net.blobs["data"].data.shape))
    found = net.forward(data=torch.randn(shape, generator=generator))
    return {name: value.detach().numpy() for name, value in found.items()}


def snapshot(model: CaffeModel) -> tuple[str, list[bytes]]:
    """The content of a model, to see that a pass has not changed it."""
    blobs = [blob.tobytes() for layer in model.weights.layers for blob in layer.blobs]
    return str(model.definition.message), blobs


def layer_types(model: CaffeModel) -> dict[str, str]:
    return {layer.name: layer.type for layer in model.definition.message.layer}
