"""An autograd function that runs a Python layer on numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class NumpyLayer(Protocol):
    """A layer that computes with numpy arrays.

    Attributes:
        overwritten: positions of bottoms that the tops at these positions overwrite.
    """

    overwritten: list[int]

    def compute(
        self, bottoms: Sequence[np.ndarray], parameters: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Tops from bottoms and parameters."""
        ...

    def compute_gradients(
        self,
        bottoms: Sequence[np.ndarray],
        parameters: Sequence[np.ndarray],
        diffs: Sequence[np.ndarray],
        wanted: Sequence[bool],
    ) -> list[np.ndarray]:
        """Gradients of bottoms and parameters from ``diffs``, the gradients of the tops."""
        ...


def run(
    layer: NumpyLayer, bottoms: tuple[Tensor, ...], parameters: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The layer's tops; their gradients come from the layer's own backward pass."""
    import torch

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
            ctx.save_for_backward(*inputs)
            arrays = [_array(value) for value in inputs]
            like = inputs[0] if inputs else torch.empty(0)
            tops = layer.compute(arrays[: len(bottoms)], arrays[len(bottoms) :])
            ctx.overwritten = {i: tops[i] for i in layer.overwritten}
            return tuple(torch.from_numpy(top).to(like) for top in tops)

        @staticmethod
        def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
            inputs = ctx.saved_tensors
            arrays = [_array(value) for value in inputs]
            for i, top in ctx.overwritten.items():
                arrays[i] = top
            wanted = ctx.needs_input_grad
            gradients = layer.compute_gradients(
                arrays[: len(bottoms)],
                arrays[len(bottoms) :],
                [_array(diff) for diff in diffs],
                wanted[: len(bottoms)],
            )
            return tuple(
                torch.from_numpy(gradient).to(value) if want else None
                for gradient, value, want in zip(gradients, inputs, wanted, strict=True)
            )

    tops: tuple[Tensor, ...] = Step.apply(*bottoms, *parameters)
    return tops


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().float().numpy()
    return array
