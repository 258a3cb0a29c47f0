"""The text of ``repr(net)`` and the members in ``help(Net)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caffecompat.graph import Graph, Version
from caffecompat.layers._base import ParameterSpec
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.module import describe_parameters
from caffecompat.net.parameters.initial_values import learnables
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import format_shape


class OwnMembers(type):
    """A metaclass with which ``dir(class)`` omits the members of base classes of other packages.

    ``help(Net)`` and ``dir(Net)`` would otherwise list two hundred members of torch. Instances
    list both.
    """

    def __dir__(cls) -> list[str]:
        ours = (base for base in cls.__mro__ if base.__module__.partition(".")[0] == "caffecompat")
        return sorted({name for base in ours for name in vars(base)})


def describe(graph: Graph, layers: Sequence[BuiltLayer]) -> str:
    """A net's layers in order: name, type, blobs with shapes, parameters."""
    copied = {top: b.bottoms[0] for b in layers if b.node.automatic for top in b.tops}
    rows = [
        (
            printable(built.name),
            built.type,
            printable(_blobs(built, copied)),
            describe_parameters(_specs(built)),
        )
        for built in layers
        if not built.node.automatic
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    count = sum(parameter.tensor.numel() for parameter in learnables(layers))
    name = f" {graph.name!r}" if graph.name else ""
    lines = [f"Net{name}, phase {graph.phase}, {len(rows)} layers, {count:,} parameter values"]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(f"  {'  '.join([*cells, row[3]])}".rstrip())
    return "\n".join(lines)


def _specs(built: BuiltLayer) -> Sequence[ParameterSpec]:
    return built.layer.specs if built.layer else ()


def _blobs(built: BuiltLayer, copied: Mapping[Version, Version]) -> str:
    bottoms = ", ".join(copied.get(bottom, bottom).blob for bottom in built.bottoms)
    tops = ", ".join(
        f"{top.blob} {format_shape(shape)}"
        for top, shape in zip(built.tops, built.shapes, strict=True)
    )
    return f"{bottoms} -> {tops}" if bottoms else f"-> {tops}"
