"""Parameter sharing between layers by ``param { name: ... }``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caffecompat.errors import NetError
from caffecompat.graph.graph import LayerNode
from caffecompat.reporting.units import counted


@dataclass(frozen=True)
class ParameterUse:
    """How a layer uses one of its parameter blobs.

    Attributes:
        owner: (layer index, blob index) of the blob that owns the values; itself if not shared.
        permissive: whether the shapes may differ if the number of values is equal
            (``share_mode: PERMISSIVE``).
    """

    owner: tuple[int, int]
    lr_mult: float
    decay_mult: float
    permissive: bool = False


@dataclass
class _Multipliers:
    """lr_mult and decay_mult of one owner; sharing layers may set values that it leaves out."""

    lr_mult: float | None = None
    decay_mult: float | None = None


def resolve_sharing(layers: Sequence[LayerNode], counts: Sequence[int]) -> list[list[ParameterUse]]:
    """The uses of all parameter blobs, by layer.

    Args:
        layers: in order of execution; the first layer with a parameter name owns the blob.
        counts: number of parameter blobs of each layer.

    Raises:
        NetError: more ``param`` entries than blobs, or different explicit ``lr_mult`` or
            ``decay_mult`` for one shared parameter.
    """
    owners: dict[str, tuple[int, int]] = {}
    multipliers: dict[tuple[int, int], _Multipliers] = {}
    uses: list[list[ParameterUse]] = []
    for i, (node, count) in enumerate(zip(layers, counts, strict=True)):
        specs = node.message.param
        if len(specs) > count:
            raise NetError(
                f"{node.place}: has {counted(len(specs), 'param')}, but the layer has only "
                f"{counted(count, 'parameter blob')}; remove the last "
                f"{len(specs) - count}"
            )
        row: list[ParameterUse] = []
        for j in range(count):
            spec = specs[j] if j < len(specs) else None
            name = spec.name if spec is not None else ""
            owner = owners.setdefault(name, (i, j)) if name else (i, j)
            chosen = multipliers.setdefault(owner, _Multipliers())
            for field in ("lr_mult", "decay_mult"):
                if spec is not None and spec.HasField(field):
                    _set_multiplier(chosen, field, getattr(spec, field), node, name)
            permissive = spec is not None and bool(spec.share_mode)
            row.append(ParameterUse(owner, 1.0, 1.0, permissive))
        uses.append(row)
    return [[_with_multipliers(use, multipliers[use.owner]) for use in row] for row in uses]


def _set_multiplier(
    chosen: _Multipliers, field: str, value: float, node: LayerNode, name: str
) -> None:
    known = getattr(chosen, field)
    if known is not None and known != value:
        raise NetError(
            f"{node.place}: shared parameter {name!r} has {field} {value:g} here and {known:g} in "
            "an earlier layer; give the same value or leave it out"
        )
    setattr(chosen, field, value)


def _with_multipliers(use: ParameterUse, chosen: _Multipliers) -> ParameterUse:
    return replace(
        use,
        lr_mult=1.0 if chosen.lr_mult is None else chosen.lr_mult,
        decay_mult=1.0 if chosen.decay_mult is None else chosen.decay_mult,
    )
