"""When a blob of a file is the parameter of a net, and what shape an old blob means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEGACY_AXES = 4
FILTERS = ("Convolution", "Deconvolution")


def fit(blob: np.ndarray, legacy: bool, shape: Sequence[int]) -> np.ndarray | None:
    """``blob`` in the ``shape`` of a net's parameter, or None where Caffe would refuse it.

    It fits if the shapes are equal. A blob with the old four sizes also fits if these are the
    net's shape padded with ones at the front: 1x1xNxK for N x K, 1x1x1xN for N. Nothing else
    does, however equal the number of values. Source: Caffe's Blob::ShapeEquals.

    Args:
        blob: any shape.
        legacy: its shape came from num, channels, height, width.
        shape: what the net needs.

    Returns:
        ``blob`` itself or a view of it in the new shape.
    """
    wanted = tuple(shape)
    if blob.shape == wanted:
        return blob
    if legacy and len(wanted) <= LEGACY_AXES and blob.shape == padded(wanted):
        return blob.reshape(wanted)
    return None


def padded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with ones at the front, up to four axes."""
    return (1,) * (LEGACY_AXES - len(shape)) + shape


def todays_shape(kind: str, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that blob ``index`` of a layer has today, from its four old sizes.

    Files of the old kind hold only layers of the old catalogue: filters have four axes, the
    matrix of an inner product two, and everything else that is 1x1x1xN is a vector. Where the
    layer's type is not known the four sizes stay.

    Args:
        kind: the layer's current type name.
        index: the blob's position in the layer.
        shape: num, channels, height, width.
    """
    axes = LEGACY_AXES
    if kind and index:
        axes = 1
    elif kind and kind not in FILTERS:
        axes = 2 if kind == "InnerProduct" else 1
    short = shape[LEGACY_AXES - axes :]
    return short if padded(short) == shape else shape
