"""One layer's forward and backward pass, with an autograd graph of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from caffecompat.net.blobs.backward import backward_from
from caffecompat.net.module import LayerModule


class LocalPass:
    """The forward pass of one layer over copies of its bottoms that no other graph refers to.

    Args:
        module: the layer.
        bottoms: the values of its bottoms.
        wanted: for each bottom, whether it gets a gradient.

    Attributes:
        tops: the layer's tops, in its graph.
    """

    def __init__(
        self, module: LayerModule, bottoms: Sequence[torch.Tensor], wanted: Sequence[bool]
    ) -> None:
        self._bottoms = [
            bottom.detach().requires_grad_(want) if want or bottom.requires_grad else bottom
            for bottom, want in zip(bottoms, wanted, strict=True)
        ]
        if torch.is_grad_enabled():
            result: Any = module(*self._bottoms)
        else:
            with torch.enable_grad():
                result = module(*self._bottoms)
        self.tops: tuple[torch.Tensor, ...] = (
            (result,) if isinstance(result, torch.Tensor) else tuple(result or ())
        )

    def backward(
        self, gradients: Sequence[torch.Tensor | None], keep: bool = False
    ) -> list[torch.Tensor | None]:
        """The gradients of the bottoms; those of the parameters add up in ``.grad``.

        Args:
            gradients: of the tops, also with axes of extent 1 that an in-place layer has added
                since (MVN); None where there is none.
            keep: whether :meth:`backward` will be called again.
        """
        pairs = [
            (top, gradient if gradient.shape == top.shape else gradient.reshape(top.shape))
            for top, gradient in zip(self.tops, gradients, strict=False)
            if gradient is not None and top.requires_grad
        ]
        for bottom in self._bottoms:
            bottom.grad = None
        if pairs:
            tops, roots = zip(*pairs, strict=True)
            backward_from(tops, roots, keep)
        return [bottom.grad for bottom in self._bottoms]
