"""Forward passes of layers with quantised parameters and activations (Ristretto)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._surrogate_gradient import with_gradient_of
from caffecompat.layers.forks.quantized._number_formats import (
    Format,
    Quantization,
    read_quantization,
)

if TYPE_CHECKING:
    from torch import Tensor

    from caffecompat.layers._base import Layer, Message

_PURPOSES = ("bottom", "top", "weight", "bias")


class Quantizer:
    """Rounds bottoms, parameters and tops of one layer.

    In TEST all of them are rounded. In TRAIN only the parameters are, at random; activations keep
    full precision. Gradients pass through the rounding, so that steps go to the full-precision
    parameters. Random numbers are pure functions of the seed, the pass and the element.
    """

    def __init__(self, layer: Layer, message: Message) -> None:
        from caffecompat.layers._counter_rng import Noise

        self._layer = layer
        self.formats: Quantization = read_quantization(layer, message.quantization_param)
        self._at_random = layer.training or self.formats.stochastic
        seed = layer.context.options.seed
        self._noises = {
            purpose: Noise(seed, f"{message.name} {purpose}", None)  # type: ignore[arg-type]
            for purpose in _PURPOSES
        }

    def bottom(self, x: Tensor) -> Tensor:
        """A bottom as the layer computes with it."""
        return x if self._layer.training else self._rounded(x, self.formats.bottom, "bottom")

    def top(self, y: Tensor) -> Tensor:
        """A top as the layer gives it."""
        return y if self._layer.training else self._rounded(y, self.formats.top, "top")

    def weight(self, weight: Tensor) -> Tensor:
        """The weight as the layer computes with it."""
        return self._rounded(weight, self.formats.weight, "weight")

    def bias(self, bias: Tensor | None) -> Tensor | None:
        """The bias as the layer computes with it."""
        return None if bias is None else self._rounded(bias, self.formats.bias, "bias")

    def _rounded(self, x: Tensor, form: Format | None, purpose: str) -> Tensor:
        if form is None:
            return x
        noise = self._noise(x, purpose) if self._at_random else None
        return with_gradient_of(form.round(x.detach(), noise), x)

    def _noise(self, x: Tensor, purpose: str) -> Tensor:
        """Numbers in [0, 1) in the shape of ``x``."""
        noise = self._noises[purpose]
        noise.position = self._layer.noise.position
        # Each sample has numbers of its own; all ranks round parameters to the same values.
        alone = purpose in ("bottom", "top")
        noise.samples = self._layer.noise.samples if alone else None
        bits = noise.bits(x.detach() if alone else x.detach().reshape(1, -1))
        return bits.to(x.dtype).reshape(x.shape) / 2**31
