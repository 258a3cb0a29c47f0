"""Layers from a few words of prototxt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffecompat.layers import Layer
from caffecompat.proto.text.parser import parse_text
from tests.layers.single import build, call


def message(type_name: str, text: str = "", tops: int = 1, name: str = "one") -> Any:
    """A LayerParameter with the fields of ``text`` and ``tops`` tops."""
    names = " ".join(f'top: "t{i}"' for i in range(tops))
    parsed, _ = parse_text(f'name: "{name}" type: "{type_name}" {names} {text}', "LayerParameter")
    return parsed


def made(
    type_name: str,
    text: str,
    *bottoms: Sequence[int],
    tops: int = 1,
    phase: str = "TRAIN",
) -> Layer:
    """A layer of ``type_name``, set up for bottoms of these shapes."""
    return build(message(type_name, text, tops), [tuple(b) for b in bottoms], phase)


def run(
    type_name: str,
    text: str,
    *bottoms: Tensor,
    parameters: Sequence[Tensor] = (),
    tops: int = 1,
    phase: str = "TRAIN",
) -> list[Tensor]:
    """The tops of one pass through a fresh layer."""
    layer = made(type_name, text, *(b.shape for b in bottoms), tops=tops, phase=phase)
    return call(layer, bottoms, parameters)


def distinct(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Values around 0 in random order, no two closer than 0.05 and none near 0.

    Two tensors with different small seeds have no value in common either. So no maximum is tied,
    and no kink near, when values are moved for finite differences.
    """
    count = int(torch.Size(shape).numel())
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator).to(dtype)
    return ((order - count // 2) * 0.05 + 0.02 + 0.006 * seed).reshape(tuple(shape))
