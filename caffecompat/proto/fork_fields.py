"""Fields of a message that only forks of Caffe have.

They are read and printed like all other fields. Only layer types that support such a field use it,
so code that uses a message of BVLC's must check for other fields of forks here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from caffecompat.proto.fork_meanings import Meaning, has_no_effect, meaning_of
from caffecompat.proto.schema import FORK_NUMBERS, Message

_MOST_NAMED = 3


@dataclass(frozen=True)
class ForeignField:
    """A field that BVLC Caffe does not have, or a value of an enum.

    Attributes:
        path: where it stands, as ``"pooling_param.ceil_mode"`` or ``"pooling_param.pool: AVE_TF"``.
        message: the message that holds it, ``"PoolingParameter"``.
        field: its name there, ``"ceil_mode"`` or ``"pool=AVE_TF"``.
        switched_off: it is a switch with the value false, which it has where it is not given.
    """

    path: str
    message: str
    field: str
    switched_off: bool = False

    @property
    def without_effect(self) -> bool:
        """Whether it does not change values."""
        return self.switched_off or has_no_effect(self.message, self.field)

    @property
    def meaning(self) -> Meaning | None:
        return meaning_of(self.message, self.field)


def foreign_fields(message: Message) -> list[str]:
    """The fields and enum values that BVLC Caffe does not have, as ``"pooling_param.ceil_mode"``.

    A message that only forks have counts as one field, whatever it contains.
    Extensions of caffecompat (docs/extensions.md) do not count. Each name comes once, in the order
    of the message.
    """
    return list(dict.fromkeys(one.path for one in all_foreign(message)))


def effective_fields(message: Message) -> list[ForeignField]:
    """:func:`foreign_fields` that change values, or may."""
    return [one for one in all_foreign(message) if not one.without_effect]


def all_foreign(message: Message) -> list[ForeignField]:
    """:func:`foreign_fields` with their messages."""
    return _once(_found(message.ListFields(), "", message.DESCRIPTOR.name))


def foreign_settings(net: Message, supported: Callable[[str, ForeignField], bool]) -> list[str]:
    """Notes on the fields of forks in a net that its layer types do not support, one line for each.

    Fields that do not change values, and whole parameter messages of forks' layer types, are left
    out. A layer type that does not support a field refuses it when the net is built.

    Args:
        supported: whether a layer type supports a field.
    """
    layers: dict[str, list[str]] = {}
    for layer in net.layer:
        for one in effective_fields(layer):
            if "." not in one.path and one.path.endswith("_param"):
                continue
            if not supported(layer.type, one):
                layers.setdefault(one.path, []).append(layer.name)
    notes = [_note_outside_layers(one) for one in _outside_layers(net)]
    for name, names in layers.items():
        shown = ", ".join(repr(one) for one in names[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        notes.append(
            f"{name} of {shown}{more} is a field of other Caffe versions, which the layer type "
            "does not support"
        )
    return notes


def _note_outside_layers(one: ForeignField) -> str:
    if one.meaning is None:
        return f"{one.path} is a field of other Caffe versions"
    return f"{one.path}: {one.meaning.sentence}; not supported, ignored"


def _outside_layers(net: Message) -> list[ForeignField]:
    fields = [pair for pair in net.ListFields() if pair[0].name not in ("layer", "layers")]
    found = _once(_found(fields, "", net.DESCRIPTOR.name))
    return [one for one in found if not one.without_effect]


def _once(fields: Iterable[ForeignField]) -> list[ForeignField]:
    return list(dict.fromkeys(fields))


def _found(fields: Iterable[tuple[Any, Any]], path: str, message: str) -> Iterator[ForeignField]:
    """The foreign ones among set fields of ``message``, each with its descriptor and value."""
    for entry, value in fields:
        name = f"{path}{entry.name}"
        several = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
        values = value if several else (value,)
        if entry.number in FORK_NUMBERS:
            off = value is False and entry.default_value is False
            yield ForeignField(name, message, entry.name, off)
        elif entry.message_type is not None:
            for child in values:
                yield from _found(child.ListFields(), f"{name}.", entry.message_type.name)
        elif entry.enum_type is not None:
            names = entry.enum_type.values_by_number
            for one in values:
                if one in FORK_NUMBERS:
                    shown = names[one].name
                    yield ForeignField(f"{name}: {shown}", message, f"{entry.name}={shown}")
