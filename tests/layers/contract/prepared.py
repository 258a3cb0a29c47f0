"""Layers of examples with their bottoms and parameters."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import torch
from torch import Tensor

from caffecompat.layers import Layer
from caffecompat.layers.fillers import fill
from tests.layers.messages import message
from tests.layers.single import build
from tests.layers.strategies import Example

# Shapes of their tops depend on values.
DYNAMIC = {"Filter"}


parsed = cache(message)


def prepared(type_name: str, example: Example) -> Layer:
    definition = deepcopy(parsed(type_name, example.text, example.tops))
    return build(definition, [b.shape for b in example.bottoms], example.phase)


def bottoms_of(example: Example, dtype: torch.dtype) -> list[Tensor]:
    return [bottom.tensor(seed, dtype) for seed, bottom in enumerate(example.bottoms)]


def parameters_of(layer: Layer, dtype: torch.dtype) -> list[Tensor]:
    """Random learned parameters and freshly filled statistics."""
    generator = torch.Generator().manual_seed(11)
    return [
        torch.rand(spec.shape, generator=generator, dtype=dtype) - 0.4
        if spec.learned
        else fill(spec.filler, spec.shape, generator).to(dtype)
        for spec in layer.specs
    ]
