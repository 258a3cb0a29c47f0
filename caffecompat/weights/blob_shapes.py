"""Shapes of blobs: matching a file's blob to a net's parameter, and shapes of legacy blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# The most axes of a blob, Caffe's kMaxBlobAxes.
MAX_AXES = 32
LEGACY_AXES = 4
FILTERS = ("Convolution", "Deconvolution")


def match_shape(blob: np.ndarray, legacy: bool, shape: Sequence[int]) -> np.ndarray | None:
    """``blob`` in the ``shape`` of a net's parameter, or None if Caffe would refuse it.

    Equal shapes match. A blob with the legacy four sizes also matches if they are the net's shape
    with leading ones: 1x1xNxK for N x K, 1x1x1xN for N. Other shapes do not match, even with an
    equal number of values. Source: Caffe's Blob::ShapeEquals.

    Args:
        blob: any shape.
        legacy: whether its shape came from num, channels, height, width.
        shape: the shape of the net's parameter.

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
    """``shape`` with leading ones, up to four axes."""
    return (1,) * (LEGACY_AXES - len(shape)) + shape


def current_shape(kind: str, index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The current shape of blob ``index`` of a layer, from its legacy four sizes.

    Legacy files contain only the layer types of their time: filters have four axes, the matrix of
    an inner product has two, and any other 1x1x1xN blob is a vector. If the layer's type is not
    known, the four sizes are kept.

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
