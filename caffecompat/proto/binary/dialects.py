"""Binary nets by number: which Caffe's schema a file follows, and its fields in the united schema.

All Caffes agree on the numbers of names, types, wiring and blobs. From number 137 on each fork
has numbers of its own, so the parameters of a layer type can be read only by the schema that the
file was written with. A file does not name it; it is recognised by its layer
types and the numbers that occur.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from caffecompat.errors import FormatError, UnknownName
from caffecompat.proto.binary.unreadable_fields import COMMON
from caffecompat.proto.descriptors import Field, layout
from caffecompat.proto.exclusive_fields import left_out, surplus_fields
from caffecompat.proto.fork_fields import foreign_fields
from caffecompat.proto.input_layers import INPUT
from caffecompat.proto.layer_types import V1_TYPES
from caffecompat.proto.schema import UNITED, Message, message_class

BVLC = "bvlc"
# BVLC's numbers, and those of the united schema for the fields of forks, as in this package's own
# snapshots. No other Caffe has such numbers, so that all pass over these fields.
CAFFECOMPAT = "caffecompat"
UNKNOWN = "unknown"
# In the order in which they are tried: a file that BVLC's schema explains is BVLC's.
DIALECTS = (BVLC, CAFFECOMPAT, "vgg2013", "ssd", "nvcaffe")

# Layer types of BVLC Caffe that the older generations did not have.
_LATER_TYPES = (
    "BatchNorm",
    "BatchReindex",
    "Bias",
    "Clip",
    "Crop",
    "ELU",
    "Embed",
    "Filter",
    INPUT,
    "LSTM",
    "LSTMUnit",
    "Log",
    "PReLU",
    "Parameter",
    "Python",
    "RNN",
    "Recurrent",
    "Reduction",
    "Reshape",
    "SPP",
    "Scale",
    "Swish",
    "Tile",
)
_BVLC_TYPES = frozenset(V1_TYPES.values()) | frozenset(_LATER_TYPES)
# Types whose parameter message is not called after them.
_PARAMETERS = {"Normalize": "norm_param", "AnnotatedData": "annotated_data_param"}


class Translated(NamedTuple):
    """A message of a dialect in the united schema.

    Attributes:
        message: what could be kept.
        left_out: how many fields were left out because nothing is known about their numbers.
        surplus: a sentence for each parameter message that was left out of a layer which has
            those of another layer type too, see :mod:`caffecompat.proto.exclusive_fields`.
    """

    message: Message
    left_out: int
    surplus: tuple[str, ...] = ()


def dialect_of(data: bytes) -> str:
    """The dialect of a binary NetParameter: one of :data:`DIALECTS`, or ``"unknown"``.

    Bytes that are no such message are unknown too.

    A dialect explains a file if it knows all the numbers that occur, and if each layer type that
    BVLC does not have brings the parameters that the dialect gives to that type. It is
    :data:`CAFFECOMPAT` if numbers occur that only the united schema has.

    Args:
        data: the file; it is parsed, so not for weights that should rather be mapped.
    """
    return next((name for name in DIALECTS if _explains(data, name)), UNKNOWN)


def from_dialect(data: bytes, message: str, dialect: str) -> Translated:
    """Read binary data by the numbers of a dialect.

    Args:
        data: the serialised message.
        message: its name, as in the united schema.
        dialect: one of :data:`DIALECTS`, or ``"unknown"``, which keeps the common fields only.

    Raises:
        FormatError: the bytes are no such message.
        UnknownName: there is no such dialect.
    """
    if dialect == UNKNOWN:
        found = _parse(data, BVLC, message)
        return Translated(found, _keep_common(found))
    found = _parse(data, dialect, message)
    left_out = sum(1 for _ in _unknown_numbers(found))
    if _schema(dialect) == UNITED:
        found.DiscardUnknownFields()
        return Translated(found, left_out)
    result, surplus = message_class(message)(), list[str]()
    left_out += len(_copy(found, result, surplus))
    return Translated(result, left_out, tuple(surplus))


def to_dialect(message: Message, dialect: str) -> bytes:
    """Serialise a message by the numbers of a dialect.

    Raises:
        FormatError: a field has no number there, or one that the schema requires is missing; the
            message names it.
        UnknownName: there is no such dialect.
    """
    _check(dialect)
    target, missing = _in_dialect(message, dialect)
    if missing:
        shown = ", ".join(dict.fromkeys(missing))
        others = [name for name in DIALECTS if not _in_dialect(message, name)[1]]
        raise FormatError(
            f"in binary form the dialect {dialect!r} has no number for {shown}; write text, or the "
            f"dialect {' or '.join(map(repr, others))}"
        )
    if not target.IsInitialized():
        lacking = ", ".join(target.FindInitializationErrors())
        raise FormatError(
            f"it would lack {lacking}, without which no Caffe reads it; the source is damaged: add "
            "the field to a prototxt of the net, or copy the source again"
        )
    return bytes(target.SerializeToString())


def _in_dialect(message: Message, dialect: str) -> tuple[Message, list[str]]:
    """The message in the schema of a dialect, and the fields that have no number there."""
    if _schema(dialect) == UNITED:
        foreign = foreign_fields(message) if dialect == BVLC else []
        return message, [f"{message.DESCRIPTOR.name}.{name}" for name in foreign]
    target = message_class(message.DESCRIPTOR.name, dialect)()
    return target, _copy(message, target, [])  # no dialect has exclusive fields


def descriptor(message: str, dialect: str) -> Any:
    """The descriptor of a message in the schema that a dialect is parsed by.

    Raises:
        UnknownName: there is no such dialect.
    """
    _check(dialect)
    return message_class(message, _schema(dialect)).DESCRIPTOR


def _schema(dialect: str) -> str:
    """The schema that a dialect is parsed by."""
    return UNITED if dialect in (BVLC, CAFFECOMPAT) else dialect


def _check(dialect: str) -> None:
    if dialect not in DIALECTS:
        raise UnknownName("dialect", dialect, DIALECTS)


def _parse(data: bytes, dialect: str, message: str = "NetParameter") -> Message:
    from google.protobuf.message import DecodeError

    _check(dialect)
    kind = message_class(message, _schema(dialect))
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise FormatError(
            f"the data is damaged, cut off or of another kind, expected a binary {message}"
        ) from error


def _explains(data: bytes, dialect: str) -> bool:
    try:
        net = _parse(data, dialect)
    except FormatError:
        return False
    if dialect == "vgg2013" and net.layer:
        return False
    layers = [*net.layer, *net.layers]
    if any(True for layer in layers for _ in _unknown_numbers(layer)):
        return False
    if _schema(dialect) == UNITED and foreign_fields(net):
        return dialect == CAFFECOMPAT
    return dialect != CAFFECOMPAT and all(_fits(layer) for layer in net.layer)


def _fits(layer: Message) -> bool:
    """Whether a layer type that is not BVLC's has no parameters but its own."""
    if layer.type in _BVLC_TYPES:
        return True
    own = _PARAMETERS.get(layer.type)
    for entry, _ in layer.ListFields():
        if not entry.name.endswith("_param") or entry.name in ("transform_param", "loss_param"):
            continue
        stem = entry.name.removesuffix("_param").replace("_", "")
        if entry.name != own and stem != layer.type.lower() and entry.name != "data_param":
            return False
    return True


def _unknown_numbers(message: Message) -> Iterator[int]:
    """Numbers in the data that the message's schema does not have, in blobs not looked for."""
    yield from _own_unknown_numbers(message)
    for entry, value in message.ListFields():
        if entry.message_type is None or entry.name == "blobs":
            continue
        several = hasattr(value, "__len__")
        for child in value if several else (value,):
            yield from _unknown_numbers(child)


def _own_unknown_numbers(message: Message) -> Iterator[int]:
    from google.protobuf.unknown_fields import UnknownFieldSet

    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield unknown[index].field_number


def _keep_common(message: Message) -> int:
    """Clear all but the common fields of a net and its layers; returns how many were cleared."""
    kept = COMMON.get(message.DESCRIPTOR.name)
    if kept is None:
        return 0
    going = [entry.name for entry, _ in message.ListFields() if entry.name not in kept]
    for name in going:
        message.ClearField(name)
    count = len(going) + len(list(_own_unknown_numbers(message)))
    if message.DESCRIPTOR.name == "NetParameter":
        count += sum(_keep_common(layer) for layer in [*message.layer, *message.layers])
    message.DiscardUnknownFields()
    return count


def _copy(source: Message, target: Message, surplus: list[str]) -> list[str]:
    """Copy by name between two schemas; the names that the target does not have.

    A sentence for each field of a layer that must go is added to ``surplus``.
    """
    missing: list[str] = []
    going = surplus_fields(source, layout(target.DESCRIPTOR).fields)
    if going:
        surplus += left_out(source.name, source.type, going)
    for entry, value in source.ListFields():
        if entry.name in going:
            continue
        own = layout(source.DESCRIPTOR).fields[entry.name]
        field = layout(target.DESCRIPTOR).fields.get(entry.name)
        name = f"{source.DESCRIPTOR.name}.{entry.name}"
        values = value if own.repeated else (value,)
        if field is None or field.repeated != own.repeated or field.kind != own.kind:
            missing.append(name)
        elif own.kind == "message":
            for child in values:
                missing += _copy(child, _child(target, field), surplus)
        else:
            values, lost = _renumbered(values, own, field)
            missing += [f"{name}: {one}" for one in lost]
            if own.repeated:
                getattr(target, field.name).extend(values)
            elif values:
                setattr(target, field.name, values[0])
    return missing


def _child(target: Message, field: Field) -> Message:
    place = getattr(target, field.name)
    if field.repeated:
        return place.add()
    place.SetInParent()
    return place


def _renumbered(values: Sequence[Any], own: Field, field: Field) -> tuple[Sequence[Any], list[str]]:
    """Enum values go by name, others as they are; the names that the target lacks."""
    if own.kind != "enum":
        return values, []
    names = {number: name for name, number in own.numbers.items()}
    found = [names[value] for value in values]
    known = [field.numbers[name] for name in found if name in field.numbers]
    return known, [name for name in found if name not in field.numbers]
