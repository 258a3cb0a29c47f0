"""The message classes of Caffe's schema, from descriptor pools of their own.

``proto/caffe.proto`` and the forks' fields in ``proto/forks.tsv`` are united by
``tools/generate_schema.py`` into ``caffe.binpb`` beside this file. Everything works on messages of
the united schema, whose numbers are BVLC's wherever BVLC has the field; a field of a fork has a
number of ours there (:data:`FORK_NUMBERS`), since forks' own numbers collide. Binary files of a
fork are read by the schema of their dialect, see :mod:`caffecompat.proto.binary.dialects`. With
private pools the package works beside another ``caffe_pb2`` in the default pool.

Importing this module costs nothing: protobuf is loaded by the first call.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from caffecompat.errors import UnknownName

# The classes exist only at run time, so a type checker sees their instances as anything.
Message: TypeAlias = Any

PACKAGE = "caffe"

UNITED = "caffe"
# Numbers of fields and enum values that only forks have, in messages and enums of BVLC's. No Caffe
# knows them: in this package's snapshots others pass over them, and binary nets are written with
# them only where the dialect "caffecompat" is meant.
FORK_NUMBERS = range(20000, 30000)


def new(name: str) -> Message:
    """An empty message, e.g. ``new("NetParameter")``.

    Raises:
        UnknownName: the schema has no message of that name.
    """
    return message_class(name)()


@cache
def message_class(name: str, schema: str = UNITED) -> type[Message]:
    """The class of the message ``name``, without the package (``"BlobProto"``).

    Args:
        name: the message.
        schema: the united schema, or the name of a dialect of binary files.

    Raises:
        UnknownName: the schema has no message of that name.
    """
    from google.protobuf.message_factory import GetMessageClass

    try:
        descriptor = _pool(schema).FindMessageTypeByName(f"{PACKAGE}.{name}")
    except KeyError:
        raise UnknownName("message", name, message_names(schema)) from None
    return GetMessageClass(descriptor)


@cache
def enum_names(name: str) -> dict[str, int]:
    """The values of an enum by name, e.g. of ``"PoolingParameter.PoolMethod"`` or ``"Phase"``.

    Raises:
        UnknownName: the schema has no enum of that name.
    """
    try:
        descriptor = _pool().FindEnumTypeByName(f"{PACKAGE}.{name}")
    except KeyError:
        raise UnknownName("enum", name, ()) from None
    return {value.name: value.number for value in descriptor.values}


def enum_name(message: Message, field: str) -> str:
    """The name of the value of an enum's field, e.g. ``"MAX"`` for the field ``pool``."""
    names = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(names[getattr(message, field)].name)


def message_names(schema: str = UNITED) -> tuple[str, ...]:
    """All messages of a schema, in order of name."""
    return tuple(sorted(file_descriptor(schema).message_types_by_name))


def file_descriptor(schema: str = UNITED) -> Any:
    """The descriptor of a schema's file, with all messages and enums."""
    return _pool(schema).FindFileByName(f"{schema}.proto")


@cache
def _pool(schema: str = UNITED) -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    files = FileDescriptorSet.FromString(Path(__file__).with_name("caffe.binpb").read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        if file.name == f"{schema}.proto":
            pool.AddSerializedFile(file.SerializeToString())
    return pool
