"""The fields of each message of the schema by name, for text parsing and printing.

Only this module uses protobuf's descriptors, whose interface differs between versions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

# Measured with protobuf 7 (upb): 1575 bytes for 188 fields, 475 for 55, 29 for 1; 720 for 88 and a
# oneof of 117.
_SIZE_ALONE = 32
_SIZE_OF_FIELD = 8
# Messages of MyCaffe alone, whose text has no escapes: its strings are paths with backslashes.
_WITHOUT_ESCAPES = ("TokenizedDataParameter",)


@dataclass(frozen=True, eq=False)
class Field:
    """One field of a message; there is one object for each, which equals itself only.

    ``number`` is its number in binary form. ``kind`` is one of ``message``, ``whole``, ``float``,
    ``double``, ``bool``, ``enum``, ``string``, ``bytes``; ``low`` and ``high`` bound whole
    numbers, ``numbers`` are the values of an enum. In the text of a field with ``raw`` a backslash
    stands for itself, but for one before a backslash or a quote. ``group`` is the name of the oneof
    of which a message sets one field only, empty for a field by itself.
    """

    name: str
    number: int
    kind: str
    repeated: bool
    low: int = 0
    high: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    descriptor: Any = None
    raw: bool = False
    group: str = ""

    @cached_property
    def inside(self) -> Layout:
        """The layout of the message that the field holds."""
        return layout(self.descriptor)

    @cached_property
    def holds_layers(self) -> bool:
        """Whether the field holds a layer, of any generation."""
        return self.kind == "message" and self.inside.is_layer


@dataclass(frozen=True, eq=False)
class Layout:
    """The fields of one message by name, and which of them are required; one object for each.

    ``size`` is about the memory that protobuf takes for the message, in bytes, without what
    strings, repeated fields and inner messages add: it keeps a place for each field, set or not,
    and one for all fields of a oneof.
    """

    name: str
    fields: dict[str, Field]
    required: tuple[str, ...]
    is_layer: bool
    size: int

    @cached_property
    def has_layers(self) -> bool:
        """Whether its fields are layers, as those of a net."""
        return any(entry.holds_layers for entry in self.fields.values())


@cache
def layout(descriptor: Any) -> Layout:
    """The layout of a message, from its descriptor."""
    groups = [_group(entry) for entry in descriptor.fields]
    places = groups.count("") + len(descriptor.oneofs)
    return Layout(
        descriptor.name,
        {entry.name: _field(entry) for entry in descriptor.fields},
        tuple(entry.name for entry in descriptor.fields if _is_labelled(entry, "required")),
        descriptor.name in ("LayerParameter", "V1LayerParameter"),
        _SIZE_ALONE + _SIZE_OF_FIELD * places,
    )


def _group(entry: Any) -> str:
    return entry.containing_oneof.name if entry.containing_oneof is not None else ""


def _field(entry: Any) -> Field:
    repeated = _is_labelled(entry, "repeated")
    if entry.message_type is not None:
        kind, group = entry.message_type, _group(entry)
        return Field(entry.name, entry.number, "message", repeated, descriptor=kind, group=group)
    if entry.enum_type is not None:
        numbers = {value.name: value.number for value in entry.enum_type.values}
        return Field(entry.name, entry.number, "enum", repeated, -(2**31), 2**31 - 1, numbers)
    ranges = {
        entry.TYPE_INT32: (-(2**31), 2**31 - 1),
        entry.TYPE_INT64: (-(2**63), 2**63 - 1),
        entry.TYPE_UINT32: (0, 2**32 - 1),
        entry.TYPE_UINT64: (0, 2**64 - 1),
    }
    if entry.type in ranges:
        return Field(entry.name, entry.number, "whole", repeated, *ranges[entry.type])
    kinds = {
        entry.TYPE_FLOAT: "float",
        entry.TYPE_DOUBLE: "double",
        entry.TYPE_BOOL: "bool",
        entry.TYPE_STRING: "string",
        entry.TYPE_BYTES: "bytes",
    }
    raw = entry.containing_type.name in _WITHOUT_ESCAPES
    return Field(entry.name, entry.number, kinds[entry.type], repeated, raw=raw)


def _is_labelled(entry: Any, label: str) -> bool:
    answer = getattr(entry, f"is_{label}", None)
    if answer is None:  # protobuf before 6.31
        answer = entry.label == getattr(entry, f"LABEL_{label.upper()}")
    return bool(answer)
