"""Parameter values in the definition: the ``blobs { }`` of a layer."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from caffecompat.errors import LayerError
from caffecompat.graph import LayerNode
from caffecompat.layers import Layer, Shape
from caffecompat.layers._base import Message
from caffecompat.reporting.units import format_shape
from caffecompat.weights.blob_shapes import match_shape

if TYPE_CHECKING:
    import numpy as np

_OLD_SIZES = ("num", "channels", "height", "width")


def check_embedded(node: LayerNode, layer: Layer) -> list[str]:
    """Refuses embedded blobs that Caffe refuses.

    The number of values of a blob must be that of its shape. For types with
    :attr:`Layer.checks_blobs` the shape must be the parameter's; with the old fields num, channels,
    height and width it may have leading ones. All other types take the values in their order.

    Returns:
        A note for each blob whose shape differs from the parameter's.

    Raises:
        LayerError: the number of blobs is wrong, or the shape of one of them.
    """
    blobs = node.message.blobs
    if blobs and len(blobs) != len(layer.specs):
        raise LayerError(
            f"{node.place}: the definition embeds {len(blobs)} blobs, the layer has "
            f"{len(layer.specs)}"
        )
    notes = []
    for j, (blob, spec) in enumerate(zip(blobs, layer.specs, strict=False)):
        who = f"{node.place}: embedded blob {j}"
        values = _values(blob, layer, who)
        wanted = f"the layer's {spec.name} is {format_shape(spec.shape)}"
        if match_shape(values, _is_old(blob), spec.shape) is not None:
            continue
        found = format_shape(values.shape)
        if layer.checks_blobs or values.size != prod(spec.shape):
            raise LayerError(f"{who} is {found}, but {wanted}; give it that shape")
        notes.append(f"{who} is {found}, {wanted}; its values are taken in their order")
    return notes


def embedded_value(node: LayerNode, j: int, shape: Shape) -> np.ndarray:
    """The values of embedded blob ``j`` as float32, after :func:`check_embedded`."""
    return _array(node.message.blobs[j]).reshape(shape)


def _array(blob: Message) -> np.ndarray:
    import numpy as np

    return np.array(blob.double_data or blob.data, dtype=np.float32)


def _is_old(blob: Message) -> bool:
    """Whether the shape is given by num, channels, height or width; as in Caffe, one is enough."""
    return any(blob.HasField(size) for size in _OLD_SIZES)


def _values(blob: Message, layer: Layer, who: str) -> np.ndarray:
    """The values in the blob's shape, which has no axes if it is not given."""
    if _is_old(blob):
        shape = tuple(getattr(blob, size) for size in _OLD_SIZES)
    else:
        shape = tuple(blob.shape.dim)
    layer.check_axes(shape, who)
    values = _array(blob)
    if min(shape, default=0) < 0 or values.size != prod(shape):
        stated = format_shape(shape) if shape else "missing (which means one value)"
        raise LayerError(
            f"{who} holds {values.size} values, but its shape is {stated}; write "
            "shape { dim: ... } with the extents of its values"
        )
    return values.reshape(shape)
