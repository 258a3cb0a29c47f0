"""How much of the input each element of a blob depends on, from kernels and strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from caffecompat.graph import Version
from caffecompat.layers._base import format_shape
from caffecompat.net.build import BuiltLayer

# An element of the top depends on the same place of the bottoms alone (and on other channels).
POINTWISE = {
    *("AbsVal", "BatchNorm", "Bias", "BNLL", "Clip", "Concat", "Dropout", "Eltwise", "ELU", "Exp"),
    *("Log", "Power", "PReLU", "ReLU", "Scale", "Sigmoid", "Silence", "Slice", "Softmax", "Split"),
    *("Swish", "TanH", "Threshold"),
}
CHANNEL_AXIS = 1
IMAGE_AXES = 4


@dataclass(frozen=True)
class ReceptiveField:
    """What one element sees, per spatial axis.

    Attributes:
        size: extents in pixels of the net's input, padding not counted off.
        stride: pixels of the input between neighbours; a fraction after a deconvolution.
    """

    size: tuple[int, ...]
    stride: tuple[Fraction, ...]

    def __str__(self) -> str:
        square = len(set(self.size)) == 1 and len(set(self.stride)) == 1
        size = str(self.size[0]) if square else format_shape(self.size)
        stride = str(self.stride[0]) if square else "x".join(map(str, self.stride))
        return f"{size} /{stride}"


@dataclass(frozen=True)
class FieldRow:
    """The receptive field of a layer's tops, or why there is none.

    ``field`` is None from the layer on that ends it; that layer itself has a ``reason``.
    """

    field: ReceptiveField | None
    reason: str = ""


def receptive_fields(layers: Sequence[BuiltLayer]) -> list[FieldRow]:
    """One row per layer of a net, automatic splits included.

    Counted are Convolution, Deconvolution, Pooling and LRN within channels; what looks at whole
    maps (InnerProduct, global pooling) or rearranges them ends the notion, and the row says so.
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
        shape = built.shapes[0] if built.shapes else ()
        axes = len(shape) - CHANNEL_AXIS - 1
        start = ReceptiveField((1,) * axes, (Fraction(1),) * axes)
        return FieldRow(start if len(shape) >= IMAGE_AXES else None)
    fields = [known[bottom] for bottom in built.bottoms]
    present = [f for f in fields if f is not None]
    if not present or len(present) < len(fields):
        return FieldRow(None)
    merged = _merged(present)
    if merged is None:
        return FieldRow(None, "its bottoms have different strides")
    step = STEPS.get(built.type)
    if step is not None:
        return step(built, merged)
    if built.node.automatic or (built.type in POINTWISE and _along_channels(built)):
        return FieldRow(merged)
    return FieldRow(None, "it looks at whole maps, or rearranges them")


def _merged(fields: list[ReceptiveField]) -> ReceptiveField | None:
    """What an element sees through several bottoms: the largest extents, centres taken as equal."""
    if len({field.stride for field in fields}) > 1:
        return None
    sizes = zip(*(field.size for field in fields), strict=True)
    return ReceptiveField(tuple(max(extents) for extents in sizes), fields[0].stride)


def _along_channels(built: BuiltLayer) -> bool:
    """Whether Softmax, Concat and Slice work along the channels, as they do by default."""
    message = built.node.message
    for kind in ("softmax", "concat", "slice"):
        if built.type.lower() == kind:
            return int(getattr(message, f"{kind}_param").axis) in (CHANNEL_AXIS, -3)
    return True


def _widened(
    field: ReceptiveField, reach: Sequence[int], stride: Sequence[int | Fraction]
) -> ReceptiveField:
    """Through a window that covers ``reach`` elements and moves by ``stride`` of them."""
    return ReceptiveField(
        tuple(
            int(size + (r - 1) * step)
            for size, r, step in zip(field.size, reach, field.stride, strict=True)
        ),
        tuple(step * s for step, s in zip(field.stride, stride, strict=True)),
    )


def _convolution(built: BuiltLayer, field: ReceptiveField) -> FieldRow:
    geometry = built.layer.geometry  # type: ignore[union-attr]
    if geometry.channel_axis != CHANNEL_AXIS or geometry.axes != len(field.size):
        return FieldRow(None, "its kernel moves over other axes than the image's")
    return FieldRow(_widened(field, geometry.reach, geometry.stride))


def _deconvolution(built: BuiltLayer, field: ReceptiveField) -> FieldRow:
    geometry = built.layer.geometry  # type: ignore[union-attr]
    if geometry.channel_axis != CHANNEL_AXIS or geometry.axes != len(field.size):
        return FieldRow(None, "its kernel moves over other axes than the image's")
    reach = [-(-r // s) for r, s in zip(geometry.reach, geometry.stride, strict=True)]
    return FieldRow(_widened(field, reach, [Fraction(1, s) for s in geometry.stride]))


def _pooling(built: BuiltLayer, field: ReceptiveField) -> FieldRow:
    layer = built.layer
    kernel = layer.kernel  # type: ignore[union-attr]
    if kernel is None:
        return FieldRow(None, "it pools whole maps")
    return FieldRow(_widened(field, kernel, layer.stride))  # type: ignore[union-attr]


def _lrn(built: BuiltLayer, field: ReceptiveField) -> FieldRow:
    p = built.node.message.lrn_param
    within = p.norm_region == p.WITHIN_CHANNEL
    axes = len(field.size)
    return FieldRow(_widened(field, (p.local_size,) * axes, (1,) * axes) if within else field)


def _whole(built: BuiltLayer, field: ReceptiveField) -> FieldRow:
    return FieldRow(None, "it sees the whole of its bottom")


STEPS: dict[str, Callable[[BuiltLayer, ReceptiveField], FieldRow]] = {
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Pooling": _pooling,
    "LRN": _lrn,
    "InnerProduct": _whole,
}
