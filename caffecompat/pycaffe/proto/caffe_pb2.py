"""Caffe's messages and enums as Python module, what ``caffe.proto.caffe_pb2`` is in pycaffe.

``caffe_pb2.NetParameter()``, ``caffe_pb2.TRAIN``, ``caffe_pb2.PoolingParameter.MAX``,
``caffe_pb2.Phase.Name(0)``, ``caffe_pb2.LayerParameter.DESCRIPTOR`` and the old spelling of the
latter, ``caffe_pb2._LAYERPARAMETER``, are there. The classes are those that the whole package works
on (:mod:`caffecompat.proto.schema`), so that a message goes into any of its functions.

``SerializeToString`` and ``ParseFromString`` use the wire format of BVLC Caffe. Fields that only
forks of Caffe have are known too; their numbers are from 20000 on, so that BVLC Caffe ignores them
in a file, and a fork does not find them under its own numbers.

``str(message)`` writes text as pycaffe does: a float is Python's text of the value that 32 bits
hold, 0.1 prints as 0.10000000149011612. It is read back without a difference.
"""

from __future__ import annotations

import sys
from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from caffecompat.proto import schema
from caffecompat.proto.text.printer import format_text

DESCRIPTOR = schema.file_descriptor()


def _as_text(message: Any) -> str:
    return format_text(message, repr)


def _set_text(message_class: Any) -> None:
    """Lets ``str`` print messages of a class, and of the classes in it, as pycaffe does."""
    message_class.__str__ = _as_text
    for nested in message_class.DESCRIPTOR.nested_types:
        _set_text(getattr(message_class, nested.name))


def _names() -> dict[str, Any]:
    """Everything that the module holds: classes, enums with their values, and descriptors."""
    found: dict[str, Any] = {}
    for name in schema.message_names():
        message_class: Any = schema.message_class(name)
        _set_text(message_class)
        # A message pickles by the name of its class in this module.
        message_class.__module__ = __name__
        found[name] = message_class
        found[f"_{name.upper()}"] = message_class.DESCRIPTOR
        for enum in message_class.DESCRIPTOR.enum_types:
            found[f"_{name.upper()}_{enum.name.upper()}"] = enum
    for name, enum in DESCRIPTOR.enum_types_by_name.items():
        found[name] = EnumTypeWrapper(enum)
        found[f"_{name.upper()}"] = enum
        found.update({value.name: value.number for value in enum.values})
    return found


vars(sys.modules[__name__]).update(_names())


def __getattr__(name: str) -> Any:
    """Only for type checkers and for names that do not exist."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
