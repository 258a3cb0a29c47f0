"""Layers alone, without a net around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffecompat.layers import BuildOptions, Context, Layer, catalogue
from caffecompat.layers._counter_rng import Noise


def build(message: Any, bottoms: Sequence[tuple[int, ...]], phase: str = "TRAIN") -> Layer:
    """A layer set up for bottoms of these shapes."""
    if message.HasField("phase"):
        phase = (
            message.DESCRIPTOR.fields_by_name["phase"]
            .enum_type.values_by_number[message.phase]
            .name
        )
    place = f"layer {message.name!r} ({message.type})"
    layer = catalogue.find(message.type)(Context(phase, place, BuildOptions(seed=7)))
    layer.noise = Noise(7, message.name, torch.zeros((), dtype=torch.int64))
    layer.setup(message, bottoms)
    layer.prepare()
    return layer


def call(layer: Layer, bottoms: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """The tops as a list, also for a single one."""
    names = [spec.name for spec in layer.specs]
    tops = layer.forward(*bottoms, **dict(zip(names, parameters, strict=True)))
    return list(tops) if isinstance(tops, tuple) else [tops]
