"""Weights in 16 bits beside those in fp32, for passes that are played back with their update.

In 16 bits each pass casts the weights of its products, and casts their gradients back. Where the
update writes the 16-bit weights itself and reads 16-bit gradients, neither is needed. The numbers
are the same: a weight is rounded in the same way, and a cast to fp32 is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.module import LayerModule


@dataclass(frozen=True)
class _Weight:
    """One parameter of a module, and its copy in 16 bits, which gets the gradient."""

    module: LayerModule
    name: str
    whole: Tensor
    half: Tensor


class HalfWeights:
    """The weights that products alone read, in 16 bits.

    Parameters that several layers share are left out: the sum of their gradients would be rounded.

    Args:
        layers: of the net.
        dtype: the 16-bit type.

    Attributes:
        stale: the weights in fp32 may have been changed by something else than the update that
            writes both.
    """

    def __init__(self, layers: Sequence[BuiltLayer], dtype: torch.dtype) -> None:
        modules = [built.module for built in layers if built.module is not None]
        uses = Counter(id(p) for module in modules for p in module.parameters(recurse=False))
        self._weights = []
        for module in modules:
            for name in module.layer.half_parameters():
                whole = getattr(module, name)
                if whole.requires_grad and uses[id(whole)] == 1 and not module.has_views:
                    half = whole.detach().to(dtype).requires_grad_()
                    self._weights.append(_Weight(module, name, whole, half))
        self.stale = True

    @property
    def tensors(self) -> list[Tensor]:
        """The copies, which get gradients."""
        return [weight.half for weight in self._weights]

    def of(self, parameters: Sequence[Tensor]) -> dict[int, Tensor]:
        """The copies by their parameters' positions in ``parameters``."""
        positions = {id(parameter): i for i, parameter in enumerate(parameters)}
        return {positions[id(weight.whole)]: weight.half for weight in self._weights}

    @contextmanager
    def used(self) -> Iterator[None]:
        """A context in which the modules compute with the copies."""
        for weight in self._weights:
            weight.module.replaced[weight.name] = weight.half
        try:
            yield
        finally:
            for weight in self._weights:
                del weight.module.replaced[weight.name]

    @torch.no_grad()
    def refresh(self) -> None:
        """Before a pass: copies weights that may have changed, and forgets their gradients."""
        for weight in self._weights:
            # Of a pass that was not played back.
            weight.whole.grad = None
        if self.stale and self._weights:
            torch._foreach_copy_(self.tensors, [weight.whole for weight in self._weights])
        self.stale = False
