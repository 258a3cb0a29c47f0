"""Fields of a binary net whose content is not what BVLC's schema says of their numbers.

A fork may have given a number of BVLC's to a field of its own, with other content. Weight files are
read without ever looking at such fields; here they are left out, so that the rest of the net can
be parsed as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from caffecompat.errors import FormatError
from caffecompat.proto.schema import UNITED, Message, message_class

# The fields on which all Caffes agree; if one cannot be parsed, the file is damaged.
COMMON = {
    "LayerParameter": ("name", "type", "bottom", "top", "phase", "loss_weight", "param", "blobs"),
    "V1LayerParameter": ("name", "type", "bottom", "top", "blobs", "blobs_lr", "weight_decay"),
    "NetParameter": ("name", "input", "input_dim", "input_shape", "layer", "layers"),
}


def without_unreadable_fields(data: bytes) -> tuple[bytes, list[str]]:
    """A binary NetParameter without the fields that cannot be parsed by BVLC's schema.

    Returns:
        The message without them, and one phrase for each field left out ("recurrent_param of layer
        'x'"). All values of a repeated field are left out together.

    Raises:
        FormatError: what all Caffes agree on is damaged.
    """
    from google.protobuf.message import DecodeError

    try:
        net = _outline_class().FromString(data)
    except DecodeError as error:
        raise FormatError(
            "the data is damaged, cut off or of another kind, expected a binary NetParameter"
        ) from error
    lost = []
    for message, who in _parts(net):
        for name in _unreadable(message):
            message.ClearField(name)
            lost.append(f"{name} of {who}")
    return net.SerializeToString(), lost


def _parts(net: Message) -> Iterator[tuple[Message, str]]:
    yield net, "the net"
    for layers in (net.layer, net.layers):
        for index, layer in enumerate(layers):
            yield layer, _who(layer, index)


def _who(layer: Message, index: int) -> str:
    try:
        return f"layer {layer.name!r}"
    except UnicodeDecodeError:
        return f"layer number {index + 1}"


def _unreadable(message: Message) -> list[str]:
    from google.protobuf.message import DecodeError

    found = []
    kinds = _kinds()[message.DESCRIPTOR.name]
    for entry, values in message.ListFields():
        if entry.name not in kinds:
            continue
        kind = message_class(kinds[entry.name])
        try:
            for value in values:
                kind.FromString(value)
        except DecodeError:
            found.append(entry.name)
    return found


@cache
def _kinds() -> dict[str, dict[str, str]]:
    """For the messages of :data:`COMMON` their other message fields and the type of each."""
    return {
        name: {
            field.name: field.message_type.full_name.partition(".")[2]
            for field in message_class(name).DESCRIPTOR.fields
            if field.message_type is not None and field.name not in common
        }
        for name, common in COMMON.items()
    }


@cache
def _outline_class() -> type[Any]:
    """NetParameter with the message fields that may be a fork's as lists of plain bytes."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    outline = FileDescriptorProto()
    message_class("NetParameter").DESCRIPTOR.file.CopyToProto(outline)
    for message in outline.message_type:
        del message.oneof_decl[:]
        for field in message.field:
            if field.name in _kinds().get(message.name, ()):
                field.ClearField("type_name")
                field.ClearField("oneof_index")  # a list is in no oneof
                field.type = FieldDescriptorProto.TYPE_BYTES
                field.label = FieldDescriptorProto.LABEL_REPEATED
    pool = DescriptorPool()
    pool.AddSerializedFile(outline.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{UNITED}.NetParameter"))
