"""ConvolutionRistretto: a convolution with quantised weights and activations."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.convolution import Convolution
from caffecompat.layers.forks.quantized._ristretto_convolution import RistrettoConvolution


@register("ConvolutionRistretto", fork="Ristretto")
class ConvolutionRistretto(RistrettoConvolution, Convolution):
    """A Convolution whose bottom, weight, bias and top are rounded to few bits.

    ``quantization_param`` has the formats. With ``precision`` DYNAMIC_FIXED_POINT they are whole
    multiples of 2^-fl with bw bits: ``bw_layer_in`` and ``fl_layer_in`` for the bottom,
    ``bw_layer_out`` and ``fl_layer_out`` for the top, ``bw_params`` and ``fl_params`` for weight
    and bias; values beyond them take the nearest. MINIFLOAT has ``mant_bits`` and ``exp_bits`` for
    all. With INTEGER_POWER_OF_2_WEIGHTS weights are powers of two from 2^``exp_min`` to
    2^``exp_max``, the bias stays as it is, and activations are of fixed point. ``rounding_scheme``
    is NEAREST or STOCHASTIC.

    In TRAIN, activations stay as they are, and parameters are rounded at random; gradients pass
    through the rounding. The bottom blob itself keeps its values, which Ristretto overwrites.
    Source: conv_ristretto_layer.cu of Ristretto; see ``_number_formats.py`` for ties.
    """
