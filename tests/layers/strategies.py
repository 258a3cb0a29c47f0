"""What random small layers are made of; the types themselves are in the folder examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.layers.messages import distinct

Draw = st.DrawFn
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Bottom:
    """A bottom's shape and content.

    ``kind`` is "values", "positive", "flags" (0 or 1), "shares" (in [0, 1]), or "labels" with
    integers below ``classes``.
    """

    shape: Shape
    kind: str = "values"
    classes: int = 0

    def tensor(self, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.kind == "labels":
            return torch.randint(self.classes, self.shape, generator=generator).to(dtype)
        if self.kind == "flags":
            return torch.randint(2, self.shape, generator=generator).to(dtype)
        if self.kind == "shares":
            return torch.rand(self.shape, generator=generator, dtype=dtype)
        values = distinct(self.shape, seed, dtype)
        return values.abs() + 0.01 * values + 0.5 if self.kind == "positive" else values


@dataclass(frozen=True)
class Example:
    """One layer to try: prototxt fields, bottoms, number of tops, phase."""

    text: str
    bottoms: tuple[Bottom, ...]
    tops: int = 1
    phase: str = "TRAIN"


# Types with tests of their own, instead of examples and recorded layer cases.
ELSEWHERE = {
    "AutoCrop": "asks the whole net",
    "CROP": "asks the whole net",
    "DetectNetTransformation": "works on the host: forks/nvcaffe/test_detectnet.py",
    "DetectionEvaluate": "its bottoms belong together: forks/ssd/test_detections.py",
    "DetectionOutput": "its bottoms belong together: forks/ssd/test_detections.py",
    "HDF5Output": "writes files",
    "MULTI_STAGE_MEANFIELD": "waits for the device",
    "MalisLoss": "its gradient is not the derivative: forks/segmentation/test_malis_loss.py",
    "MultiBoxLoss": "its bottoms belong together: forks/ssd/test_multibox_loss.py",
    "MultiStageMeanfield": "waits for the device",
    "Python": "runs a user's class",
}

examples: dict[str, st.SearchStrategy[Example]] = {}


def example_of(*types: str) -> Callable[[Callable[[Draw], Example]], Callable[[Draw], Example]]:
    """Decorator: the function draws examples of these layer types."""

    def enter(function: Callable[[Draw], Example]) -> Callable[[Draw], Example]:
        for name in types:
            examples[name] = st.composite(function)()
        return function

    return enter


def extents(draw: Draw, least: int, most: int, greatest: int = 5) -> Shape:
    """A shape of ``least`` to ``most`` axes whose extents are all different."""
    count = draw(st.integers(least, most))
    return tuple(draw(st.permutations(range(1, max(greatest, count) + 1)))[:count])


def plane(draw: Draw) -> Shape:
    """(N, C, H, W) with different extents and a plane of 3 to 7 pixels a side."""
    n, c = draw(st.sampled_from([(1, 2), (2, 1), (2, 3)]))
    h, w = draw(st.permutations([4, 5, 6, 7]))[:2]
    return (n, c, h, w)


def axis_of(draw: Draw, shape: Sequence[int]) -> int:
    """An axis, from the front or from the end."""
    return draw(st.integers(-len(shape), len(shape) - 1))


def fields(name: str, **values: object) -> str:
    """``name { key: value ... }`` with None left out and lists repeated."""
    parts = []
    for key, value in values.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is not None:
                text = str(item).lower() if isinstance(item, bool) else str(item)
                parts.append(f"{key}: {text}")
    return f"{name} {{ {' '.join(parts)} }}"
