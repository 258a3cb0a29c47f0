"""One factor and one summand per channel, and the weights that take them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONVOLUTION, DECONVOLUTION, INNER_PRODUCT = "Convolution", "Deconvolution", "InnerProduct"
SETTINGS = {
    CONVOLUTION: "convolution_param",
    DECONVOLUTION: "convolution_param",
    INNER_PRODUCT: "inner_product_param",
}


@dataclass(frozen=True)
class ChannelAffine:
    """y = factor x + summand per channel, in double precision."""

    factor: np.ndarray
    summand: np.ndarray


def normalisation(statistics: Sequence[np.ndarray], eps: float) -> ChannelAffine:
    """What a BatchNorm with stored statistics does: mean, variance and their scale factor."""
    mean, variance, total = statistics
    share = 0.0 if total.item() == 0 else 1 / total.item()
    factor = 1 / np.sqrt(variance * share + eps)
    return ChannelAffine(factor, -mean * share * factor)


def scaled(affine: ChannelAffine, values: Sequence[np.ndarray]) -> ChannelAffine:
    """``affine`` and after it a Scale with these parameters."""
    weight = values[0]
    shift = values[1] if len(values) > 1 else 0.0
    return ChannelAffine(affine.factor * weight, affine.summand * weight + shift)


def with_affine(
    message: Any, values: Sequence[np.ndarray], affine: ChannelAffine
) -> list[np.ndarray]:
    """The weight and the bias of a layer whose output goes through ``affine``.

    Args:
        message: the LayerParameter of a Convolution, Deconvolution or InnerProduct.
        values: its weight, and its bias if it has one.
    """
    weight = values[0]
    bias = values[1] if len(values) > 1 else np.zeros_like(affine.factor)
    return [_weight(message, weight, affine.factor), bias * affine.factor + affine.summand]


def _weight(message: Any, weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    if message.type == DECONVOLUTION:
        # (C, O / group, kernel ...): the outputs of a group stand along the second axis.
        group = message.convolution_param.group
        grouped = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
        return np.asarray(grouped * factor.reshape(group, 1, -1, 1)).reshape(weight.shape)
    if message.type == INNER_PRODUCT and message.inner_product_param.transpose:
        return np.asarray(weight * factor)
    return np.asarray(weight * factor.reshape(-1, *(1,) * (weight.ndim - 1)))
