"""A layer of a net with the memory of its blobs."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from caffecompat.errors import LayerError
from caffecompat.graph import Version
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution.stepper import LayeredNet
from caffecompat.net.layer_checks import AUTOMATIC_TOP, shape_error
from caffecompat.pycaffe.execution.blob_memory import Memory
from caffecompat.pycaffe.execution.python_calls import PythonCalls


@dataclass(frozen=True)
class Origin:
    """The layer, and the position of its top, that computes a value."""

    layer: int
    top: int


@dataclass(frozen=True)
class Step:
    """A layer of a net with the memory of its blobs.

    Attributes:
        bottoms, tops: the memory of its blobs.
        bottom_diffs, top_diffs: that of their gradients.
        constant: positions of tops that are filled once.
        records: its forward pass must not run again for the backward pass, because it changes
            something.
        origins: for each bottom that a later in-place layer overwrites, what computes it.
        user: the calls of a Python layer.
    """

    built: BuiltLayer
    bottoms: list[Memory]
    tops: list[Memory]
    bottom_diffs: list[Memory]
    top_diffs: list[Memory]
    constant: frozenset[int]
    records: bool
    origins: list[Origin | None]
    user: PythonCalls | None

    @cached_property
    def passes_no_gradient(self) -> bool:
        """Whether neither a bottom nor a parameter can get a gradient."""
        layer = self.built.layer
        if layer is None:
            return False
        return not any(layer.differentiable) and not any(spec.learned for spec in layer.specs)

    @cached_property
    def overwrites(self) -> bool:
        """Whether the layer works in place."""
        tops = {top.blob for top in self.built.tops}
        return any(bottom.blob in tops for bottom in self.built.bottoms)

    def failure(self, bottoms: Sequence[torch.Tensor], error: RuntimeError) -> LayerError:
        """The error to show where torch refuses to run the layer on ``bottoms``."""
        shapes = [value.shape for value in bottoms]
        return shape_error(self.built.place, self.built.bottoms, shapes, error)


def hidden_tops(net: Net) -> dict[str, float]:
    """Names of memory, and loss weights, of the unnamed tops that another one hides.

    All unnamed tops of losses have the same name, under which the last one is seen.
    """
    unnamed = [
        (top, weight)
        for built in net.layers
        for top, weight in zip(built.tops, built.loss_weights, strict=True)
        if top.blob == AUTOMATIC_TOP
    ]
    return {_own_name(top): weight for top, weight in unnamed[:-1]}


def memory_name(top: Version, hidden: Container[str]) -> str:
    """The name of the memory of a top, its blob's or one of :func:`hidden_tops`."""
    own = _own_name(top)
    return own if top.blob == AUTOMATIC_TOP and own in hidden else top.blob


def _own_name(top: Version) -> str:
    return f"{top.blob} {top.number}"


def origins(net: LayeredNet) -> Iterator[list[Origin | None]]:
    """For each layer, the origins of its bottoms that in-place layers overwrite later."""
    last = {top.blob: top for built in net.layers for top in built.tops}
    made = {
        top: Origin(i, j) for i, built in enumerate(net.layers) for j, top in enumerate(built.tops)
    }
    for built in net.layers:
        yield [None if bottom == last[bottom.blob] else made[bottom] for bottom in built.bottoms]
