"""DeconvolutionRistretto: a deconvolution with quantised weights and activations."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.deconvolution import Deconvolution
from caffecompat.layers.forks.quantized._ristretto_convolution import RistrettoConvolution


@register("DeconvolutionRistretto", fork="Ristretto")
class DeconvolutionRistretto(RistrettoConvolution, Deconvolution):
    """A Deconvolution whose bottom, weight, bias and top are rounded to few bits.

    ``quantization_param`` is that of ConvolutionRistretto. Source: deconv_ristretto_layer.cu of
    Ristretto.
    """
