"""Fields of a message that only forks of Caffe have.

They are read and printed like all other fields. Only layer types that support such a field use it,
so code that uses a message of BVLC's must check for other fields of forks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from caffecompat.proto.schema import FORK_NUMBERS, Message

_MOST_NAMED = 3


def foreign_fields(message: Message) -> list[str]:
    """The fields and enum values that BVLC Caffe does not have, as ``"pooling_param.ceil_mode"``.

    A message that only forks have counts as one field, whatever it contains.
    Extensions of caffecompat (docs/extensions.md) do not count. Each name comes once, in the order
    of the message.
    """
    return _once(_found(message.ListFields(), ""))


def foreign_settings(net: Message) -> list[str]:
    """Notes on the fields of forks in a net, one line for each field.

    A layer type that does not support such a field ignores it. Whole parameter
    messages of forks' layer types are left out.
    """
    layers: dict[str, list[str]] = {}
    for layer in net.layer:
        for name in foreign_fields(layer):
            if "." in name or not name.endswith("_param"):
                layers.setdefault(name, []).append(layer.name)
    notes = [f"{name} is a field of other Caffe versions" for name in _outside_layers(net)]
    for name, names in layers.items():
        shown = ", ".join(repr(one) for one in names[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        notes.append(
            f"{name} of {shown}{more} is a field of other Caffe versions; it counts only where "
            "the layer type knows it"
        )
    return notes


def _outside_layers(net: Message) -> list[str]:
    fields = [pair for pair in net.ListFields() if pair[0].name not in ("layer", "layers")]
    return _once(_found(fields, ""))


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _found(fields: Iterable[tuple[Any, Any]], path: str) -> Iterator[str]:
    """The foreign ones among set fields, each with its descriptor and value."""
    for entry, value in fields:
        name = f"{path}{entry.name}"
        several = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
        values = value if several else (value,)
        if entry.number in FORK_NUMBERS:
            yield name
        elif entry.message_type is not None:
            for child in values:
                yield from _found(child.ListFields(), f"{name}.")
        elif entry.enum_type is not None and any(one in FORK_NUMBERS for one in values):
            names = entry.enum_type.values_by_number
            shown = ", ".join(names[one].name for one in values if one in FORK_NUMBERS)
            yield f"{name}: {shown}"
