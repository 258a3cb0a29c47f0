"""What a net shows of itself: ``repr(net)`` and ``help(Net)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from caffecompat.graph import Version
from caffecompat.layers._base import ParameterSpec, format_shape
from caffecompat.reporting.terminal import printable

if TYPE_CHECKING:
    from caffecompat.net.build import BuiltLayer
    from caffecompat.net.net import Net


class OwnMembers(type):
    """The class of a class that lists its own members, not those of its bases outside the package.

    ``help(Net)`` and ``dir(Net)`` would else bury two dozen of them under torch's two hundred.
    Instances list both.
    """

    def __dir__(cls) -> list[str]:
        ours = (base for base in cls.__mro__ if base.__module__.partition(".")[0] == "caffecompat")
        return sorted({name for base in ours for name in vars(base)})


def describe(net: Net) -> str:
    """The net's layers in order: name, type, blobs with shapes, parameters."""
    copied = {top: b.bottoms[0] for b in net.layers if b.node.automatic for top in b.tops}
    rows = [
        (
            printable(built.name),
            built.type,
            printable(_blobs(net, built, copied)),
            describe_parameters(_specs(built)),
        )
        for built in net.layers
        if not built.node.automatic
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    count = sum(parameter.tensor.numel() for parameter in net.learnable)
    name = f" {net.name!r}" if net.name else ""
    lines = [f"Net{name}, phase {net.phase}, {len(rows)} layers, {count:,} parameter values"]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(f"  {'  '.join([*cells, row[3]])}".rstrip())
    return "\n".join(lines)


def describe_parameters(specs: Sequence[ParameterSpec]) -> str:
    """``weight 64x3x3x3, bias 64``."""
    return ", ".join(f"{spec.name} {format_shape(spec.shape)}" for spec in specs)


def _specs(built: BuiltLayer) -> Sequence[ParameterSpec]:
    return built.layer.specs if built.layer else ()


def _blobs(net: Net, built: BuiltLayer, copied: Mapping[Version, Version]) -> str:
    bottoms = ", ".join(copied.get(bottom, bottom).blob for bottom in built.bottoms)
    tops = ", ".join(f"{top.blob} {format_shape(net.shape_of(top))}" for top in built.tops)
    return f"{bottoms} -> {tops}" if bottoms else f"-> {tops}"
