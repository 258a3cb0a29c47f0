"""The torch module of a layer, which holds its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from caffecompat.layers import Layer
from caffecompat.layers._base import ParameterSpec, Shape
from caffecompat.reporting.units import format_shape


class LayerModule(nn.Module):
    """Holds a layer's parameters under their names and passes them to its ``forward``.

    A shared parameter is the same ``nn.Parameter`` in every module that uses it; with
    ``share_mode: PERMISSIVE`` a module views it in its own shape.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self._views: dict[str, Shape] = {}
        # Tensors that stand for parameters in the passes that run now.
        self.replaced: dict[str, torch.Tensor] = {}
        layer.prepare()
        for spec in layer.specs:
            self.set_parameter(spec, torch.empty(spec.shape, device="meta"), trains=False)

    def set_parameter(self, spec: ParameterSpec, value: torch.Tensor, trains: bool) -> None:
        """Sets the parameter of ``spec`` to ``value``.

        An ``nn.Parameter`` or a buffer of another module is used without a copy, so that the two
        modules share it. Statistics (``spec.learned`` false) become buffers.
        """
        if tuple(value.shape) != spec.shape:
            self._views[spec.name] = spec.shape
        if not spec.learned:
            self.register_buffer(spec.name, value)
            return
        if not isinstance(value, nn.Parameter):
            value = nn.Parameter(value, requires_grad=trains)
        self.register_parameter(spec.name, value)

    def blobs(self) -> list[torch.Tensor]:
        """The parameter tensors in Caffe's order."""
        return [getattr(self, spec.name) for spec in self.layer.specs]

    def forward(self, *bottoms: torch.Tensor) -> Any:
        if not self.layer.specs:
            return self.layer.forward(*bottoms)
        return self.layer.forward(*bottoms, **self.arguments())

    def infer(self, *bottoms: torch.Tensor) -> Any:
        """Tops as ``meta`` tensors, while the parameters are still on ``meta``."""
        return self.layer.infer(*bottoms, **self.arguments())

    def arguments(self) -> dict[str, torch.Tensor]:
        """The parameters by name, in the shapes that the layer has declared."""
        # In each pass: an attribute of a module takes ten times as long.
        learned, statistics = self._parameters, self._buffers
        arguments: dict[str, Any] = {
            spec.name: (learned if spec.learned else statistics)[spec.name]
            for spec in self.layer.specs
        }
        for name, shape in self._views.items():
            arguments[name] = arguments[name].view(shape)
        return {**arguments, **self.replaced} if self.replaced else arguments

    @property
    def has_views(self) -> bool:
        """Whether a parameter, which another layer owns, has another shape there."""
        return bool(self._views)

    def _get_name(self) -> str:
        return self.layer.type

    def extra_repr(self) -> str:
        return describe_parameters(self.layer.specs)


def describe_parameters(specs: Sequence[ParameterSpec]) -> str:
    """``weight 64x3x3x3, bias 64``."""
    return ", ".join(f"{spec.name} {format_shape(spec.shape)}" for spec in specs)
