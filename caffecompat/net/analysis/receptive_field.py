"""The receptive fields of a net's blobs, from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffecompat.graph import Version
from caffecompat.layers import ReceptiveField
from caffecompat.net.built_layer import BuiltLayer

# Batch and channels stand before the spatial axes, of which an image has two.
IMAGE_AXES = 4


@dataclass(frozen=True)
class FieldRow:
    """The receptive field of a layer's tops, or the reason why there is none.

    ``field`` is None for the first layer without a field, which has a ``reason``, and for all
    layers after it.
    """

    field: ReceptiveField | None
    reason: str = ""


def receptive_fields(layers: Sequence[BuiltLayer]) -> list[FieldRow]:
    """One row per layer of a net, automatic splits included.

    Fields start at the images of sources, and each layer adds the extent of its kernel. Layers that
    use whole maps (InnerProduct, global pooling) or rearrange them have no field.
    """
    known: dict[Version, ReceptiveField | None] = {}
    rows = []
    for built in layers:
        row = _row(built, known)
        known.update(dict.fromkeys(built.tops, row.field))
        rows.append(row)
    return rows


def _row(built: BuiltLayer, known: dict[Version, ReceptiveField | None]) -> FieldRow:
    if built.source is not None:
        axes = len(built.shapes[0]) if built.shapes else 0
        return FieldRow(ReceptiveField.of_input(axes - 2) if axes >= IMAGE_AXES else None)
    fields = [known[bottom] for bottom in built.bottoms]
    present = [f for f in fields if f is not None]
    if not present or len(present) < len(fields):
        return FieldRow(None)
    merged = _merged(present)
    if merged is None:
        return FieldRow(None, "its bottoms have different strides")
    if built.layer is None:
        return FieldRow(merged)
    found = built.layer.receptive_field(merged)
    return FieldRow(None, found) if isinstance(found, str) else FieldRow(found)


def _merged(fields: list[ReceptiveField]) -> ReceptiveField | None:
    """The field over several bottoms: the largest extents, if all centres are equal."""
    if len({field.stride for field in fields}) > 1:
        return None
    sizes = zip(*(field.size for field in fields), strict=True)
    return ReceptiveField(tuple(max(extents) for extents in sizes), fields[0].stride)
