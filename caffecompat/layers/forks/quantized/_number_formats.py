"""Ristretto's number formats: fixed point, minifloat and powers of two.

Numbers are rounded as on a GPU, for which Ristretto's tool is written: ties go to the even
neighbour. On the CPU, Ristretto rounds ties away from zero, a zero leaves all later values of a
blob in full precision (minifloat), and activations stay as they are beside weights that are powers
of two. Source: base_ristretto_layer.cu and base_ristretto_layer.cuh of Ristretto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from caffecompat.layers._base import Layer, Message

_BIAS_OF_FLOAT = 127
_MOST_BITS, _MOST_MANTISSA_BITS, _MOST_EXPONENT_BITS = 64, 23, 8


@dataclass(frozen=True)
class FixedPoint:
    """Whole multiples of 2^-fraction with ``bits`` bits, one of them for the sign."""

    bits: int
    fraction: int

    def round(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Rounded values; ``noise`` in [0, 1) rounds at random."""
        step, most = 2.0**-self.fraction, 2.0 ** (self.bits - 1)
        return _whole(x.clamp(-most * step, (most - 1) * step) / step, noise) * step


@dataclass(frozen=True)
class MiniFloat:
    """Floating point with ``mantissa`` and ``exponent`` bits; too small values become 0.

    The exponent is that of the value before its mantissa is rounded, and all exponents are those
    of finite numbers.
    """

    mantissa: int
    exponent: int

    def round(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Rounded values; ``noise`` in [0, 1) rounds at random."""
        import torch

        single = x.float()
        fraction, power = torch.frexp(single)
        bias = 2 ** (self.exponent - 1) - 1
        power = power - 1 + bias
        steps = 2.0**self.mantissa
        share = _whole((2 * fraction.abs() - 1) * steps, noise)
        most = 2**self.exponent - 1
        share = torch.where(power > most, torch.full_like(share, steps - 1), share)
        value = torch.ldexp(1 + share / steps, power.clamp(max=most) - bias)
        tiny = single.abs() < 2.0 ** (1 - _BIAS_OF_FLOAT)
        value = torch.where(tiny | (power < 0), torch.zeros_like(value), value)
        return torch.copysign(value, single).to(x.dtype)


@dataclass(frozen=True)
class PowerOfTwo:
    """Powers of two with exponents from ``least`` to ``most``, with a sign; 0 becomes the least."""

    least: int
    most: int

    def round(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Rounded values; ``noise`` in [0, 1) rounds at random."""
        import torch

        power = _whole(x.float().abs().log2(), noise).clamp(self.least, self.most)
        size = power.exp2().to(x.dtype)
        return torch.where(x >= 0, size, -size)


Format = FixedPoint | MiniFloat | PowerOfTwo


@dataclass(frozen=True)
class Quantization:
    """What a ``quantization_param`` says; None: values stay as they are.

    Attributes:
        bottom, top: the formats of activations.
        weight, bias: those of parameters.
        stochastic: activations are rounded at random.
    """

    bottom: Format | None
    top: Format | None
    weight: Format
    bias: Format | None
    stochastic: bool


def read_quantization(layer: Layer, p: Message) -> Quantization:
    """The formats of a QuantizationParameter.

    Raises:
        LayerError: a field that Ristretto does not have, several values, or an impossible width.
    """
    _refuse_other_fields(layer, p)
    stochastic = p.rounding_scheme == p.STOCHASTIC
    if p.precision == p.MINIFLOAT:
        layer.check(
            p.mant_bits <= _MOST_MANTISSA_BITS and 1 <= p.exp_bits <= _MOST_EXPONENT_BITS,
            f"quantization_param: mant_bits is {p.mant_bits} and exp_bits {p.exp_bits}; expected "
            f"at most {_MOST_MANTISSA_BITS} and 1 to {_MOST_EXPONENT_BITS}",
        )
        small = MiniFloat(p.mant_bits, p.exp_bits)
        return Quantization(small, small, small, small, stochastic)
    bottom = _fixed_point(layer, p, "layer_in")
    top = _fixed_point(layer, p, "layer_out")
    if p.precision == p.INTEGER_POWER_OF_2_WEIGHTS:
        layer.check(
            -126 <= p.exp_min <= p.exp_max <= _BIAS_OF_FLOAT,
            f"quantization_param: exp_min is {p.exp_min} and exp_max {p.exp_max}; expected "
            "exponents of floats, the smaller one first",
        )
        return Quantization(bottom, top, PowerOfTwo(p.exp_min, p.exp_max), None, stochastic)
    weights = _fixed_point(layer, p, "params")
    return Quantization(bottom, top, weights, weights, stochastic)


def _fixed_point(layer: Layer, p: Message, what: str) -> FixedPoint:
    bits, fractions = getattr(p, f"bw_{what}"), list(getattr(p, f"fl_{what}"))
    layer.check(
        1 <= bits <= _MOST_BITS, f"quantization_param: bw_{what} is {bits}, expected 1 to 64"
    )
    layer.check(
        len(fractions) < 2,
        f"quantization_param: fl_{what} has {len(fractions)} values; Ristretto has one for a layer",
    )
    fraction = fractions[0] if fractions else 16
    layer.check(
        abs(fraction) < _MOST_BITS,
        f"quantization_param: fl_{what} is {fraction}, expected -63 to 63",
    )
    return FixedPoint(bits, fraction)


_RISTRETTO = {
    *("precision", "rounding_scheme", "mant_bits", "exp_bits", "exp_min", "exp_max"),
    *(f"{kind}_{what}" for kind in ("bw", "fl") for what in ("layer_in", "layer_out", "params")),
}


def _refuse_other_fields(layer: Layer, p: Message) -> None:
    others = [field.name for field, _ in p.ListFields() if field.name not in _RISTRETTO]
    layer.check(
        not others,
        f"quantization_param: {', '.join(others)} is of another Caffe than Ristretto; remove it, "
        "or use the net before it was quantised",
    )


def _whole(x: Tensor, noise: Tensor | None) -> Tensor:
    import torch

    return torch.round(x) if noise is None else torch.floor(x + noise)
