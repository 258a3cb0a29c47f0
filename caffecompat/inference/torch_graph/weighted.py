"""A convolution or an inner product with weights of its own, and what is computed after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from caffecompat.layers import Layer
from caffecompat.layers.clip import Clip
from caffecompat.layers.convolution import BaseConvolution, Convolution
from caffecompat.layers.deconvolution import Deconvolution
from caffecompat.layers.inner_product import InnerProduct
from caffecompat.layers.relu import ReLU
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.reporting.units import format_shape


@dataclass(frozen=True)
class Activation:
    """An activation that a kernel can compute on its results.

    Attributes:
        name: oneDNN's name for it in torch.
        settings: its numbers.
        function: the same in torch.
        in_place: the same, which changes its argument.
    """

    name: str
    settings: tuple[float, ...]
    function: Callable[[torch.Tensor], torch.Tensor]
    in_place: Callable[[torch.Tensor], torch.Tensor]


def activation_of(layer: Layer | None) -> Activation | None:
    """The activation that a layer is; None for other layers."""
    if type(layer) is ReLU:
        slope, limit = layer.negative_slope, layer.limit
        if limit is not None:
            bounds = None if slope else (0.0, limit)
            return _clamp(*bounds) if bounds else None
        if slope:
            return Activation(
                "leaky_relu",
                (slope,),
                lambda x: F.leaky_relu(x, slope),
                lambda x: F.leaky_relu_(x, slope),
            )
        return Activation("relu", (), F.relu, torch.relu_)
    if type(layer) is Clip and layer.min <= layer.max:
        return _clamp(layer.min, layer.max)
    return None


def _clamp(low: float, high: float) -> Activation:
    return Activation(
        "hardtanh", (low, high), lambda x: x.clamp(low, high), lambda x: x.clamp_(low, high)
    )


def is_convolution(layer: Layer | None) -> bool:
    """Whether a layer computes what Convolution does, also as a type of a fork."""
    return isinstance(layer, Convolution) and _is_own(layer, Convolution)


def _is_own(layer: BaseConvolution, base: type[BaseConvolution]) -> bool:
    kind = type(layer)
    return kind.convolve is base.convolve and kind.forward is BaseConvolution.forward


def is_weighted(built: BuiltLayer) -> bool:
    """Whether :class:`Weighted` can stand for a layer."""
    layer = built.layer
    if len(built.bottoms) != 1:
        return False
    if type(layer) is InnerProduct:
        return not layer.normalize
    return is_convolution(layer) or (
        isinstance(layer, Deconvolution) and _is_own(layer, Deconvolution)
    )


def check_terms(one: Sequence[int], other: Sequence[int]) -> None:
    """Refuses a sum whose terms differ in shape; the net then tells which layer it is.

    torch would repeat one of them, and oneDNN's kernels read beyond its memory.
    """
    if one != other:
        raise RuntimeError(f"the terms of a sum are {format_shape(one)} and {format_shape(other)}")


class Weighted(nn.Module):
    """activation(layer(x) + other), with a weight and a bias that are not the net's.

    Attributes:
        built: the layer.
        layer: its Convolution, Deconvolution or InnerProduct.
        weight, bias: in the layer's shapes; the net's own tensors until they are replaced.
        activation: what is computed at the end; None for nothing.
        adds: whether it takes a second bottom, which it adds to the layer's top.
        names: the layers that it computes, for messages.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, built: BuiltLayer) -> None:
        super().__init__()
        assert built.module is not None
        assert isinstance(built.layer, (BaseConvolution, InnerProduct))
        self.built = built
        self.layer: BaseConvolution | InnerProduct = built.layer
        blobs = built.module.arguments()
        # Plain attributes: torch's methods for parameters must not find the net's here.
        self.__dict__["weight"] = blobs["weight"].detach()
        bias = blobs.get("bias")
        self.__dict__["bias"] = bias.detach() if bias is not None else None
        self.activation: Activation | None = None
        self.adds = False
        self.names = [built.name]

    def set_values(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """Replaces weight and bias."""
        self.__dict__["weight"], self.__dict__["bias"] = weight, bias

    @property
    def changed(self) -> bool:
        """Whether it computes more than its layer."""
        return self.activation is not None or self.adds

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        y = self.layer.forward(x.to(self.weight.dtype), weight=self.weight, bias=self.bias)
        assert isinstance(y, torch.Tensor)
        if other is not None:
            check_terms(y.shape, other.shape)
            y = y + other
        return y if self.activation is None else self.activation.function(y)

    def extra_repr(self) -> str:
        return ", ".join(self.names)
