"""The message classes of Caffe's schema, from a descriptor pool of their own.

The schema is ``proto/caffe.proto``; ``tools/generate_schema.py`` compiles it into ``caffe.binpb``
beside this file. Private pools let a process hold several dialects of the schema, and let ours
live beside a ``caffe_pb2`` that some other package has put into the default pool.

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


def new(name: str) -> Message:
    """An empty message, e.g. ``new("NetParameter")``.

    Raises:
        UnknownName: the schema has no message of that name.
    """
    return message_class(name)()


@cache
def message_class(name: str) -> type[Message]:
    """The class of the message ``name``, without the package (``"BlobProto"``).

    Raises:
        UnknownName: the schema has no message of that name.
    """
    from google.protobuf.message_factory import GetMessageClass

    try:
        descriptor = _pool().FindMessageTypeByName(f"{PACKAGE}.{name}")
    except KeyError:
        raise UnknownName("message", name, message_names()) from None
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


def message_names() -> tuple[str, ...]:
    """All messages of the schema, in order of name."""
    return tuple(sorted(_file().message_types_by_name))


@cache
def _pool() -> Any:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool

    files = FileDescriptorSet.FromString(Path(__file__).with_name("caffe.binpb").read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _file() -> Any:
    return _pool().FindFileByName("caffe.proto")
