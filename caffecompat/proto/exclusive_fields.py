"""Parameters of forks' layer types of which a layer can have only one.

``proto/forks.tsv`` marks them as exclusive. They are the members of a oneof of the united schema,
so that a layer keeps one place in memory for all of them; setting one clears the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from caffecompat.proto.descriptors import Field, layout
from caffecompat.proto.fork_meanings import meaning_of
from caffecompat.proto.schema import Message


def only_one(given: str, other: str) -> str:
    """A sentence about two such fields in one layer; each may say its line."""
    return (
        f"a layer can have only one of {other} and {given}, which belong to different layer types; "
        "remove the one that its type does not use"
    )


def rival(message: Message, name: str) -> str | None:
    """The field that a message would lose if the field ``name`` were set."""
    group = layout(message.DESCRIPTOR).fields[name].group
    present: str | None = message.WhichOneof(group) if group else None
    return present if present != name else None


def surplus_fields(
    source: Message, fields: Mapping[str, Field], layer_type: str = ""
) -> dict[str, str]:
    """The set fields of a message that another schema has no place for, each with the one it keeps.

    Kept is the field that the type of the layer uses, else the first.

    Args:
        source: a message of a dialect, e.g. a ``LayerParameter``, or a ``V1LayerParameter``.
        fields: those of the other schema, by name.
        layer_type: the type of the layer, where ``source`` has another name for it.
    """
    groups: dict[str, list[str]] = {}
    for entry, _ in source.ListFields():
        field = fields.get(entry.name)
        if field is not None and field.group:
            groups.setdefault(field.group, []).append(entry.name)
    going: dict[str, str] = {}
    for names in groups.values():
        kept = next((name for name in names if _is_used(source, name, layer_type)), names[0])
        going |= {name: kept for name in names if name != kept}
    return going


def left_out(name: str, layer_type: str, going: Mapping[str, str]) -> list[str]:
    """A sentence for each of the :func:`surplus_fields` of a layer."""
    return [
        f"layer {name!r} ({layer_type}): left out {field}, since a layer can have only one of "
        f"{kept} and {field}"
        for field, kept in going.items()
    ]


def _is_used(layer: Message, field: str, layer_type: str) -> bool:
    meanings = [meaning_of(kind, field) for kind in (layer.DESCRIPTOR.name, "LayerParameter")]
    return any((layer_type or layer.type) in found.types for found in meanings if found is not None)
