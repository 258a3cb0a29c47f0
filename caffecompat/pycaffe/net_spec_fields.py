"""Fields of messages that are set to Python values, for :mod:`caffecompat.pycaffe.net_spec`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from caffecompat.errors import CaffeError, suggestion
from caffecompat.proto.exclusive_fields import only_one, rival
from caffecompat.proto.schema import FORK_NUMBERS

# The end of the names of fields that hold the parameters of a layer type.
PARAM_SUFFIX = "_param"

_WHOLE_NUMBERS = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
)


class FieldError(CaffeError, AttributeError):
    """A field that neither the layer nor its parameter message has."""


class ValueOfFieldError(CaffeError, TypeError, ValueError):
    """A value that a field cannot hold."""


def assign_proto(proto: Any, name: str, val: Any) -> None:
    """Sets a field of a message to a Python value.

    Args:
        proto: the message.
        name: of the field.
        val: a number or a string; a dict for a message; a list, tuple or array for a repeated
            field, of dicts if its elements are messages. One value stands for a list of one.

    Raises:
        FieldError: the message has no such field.
        ValueOfFieldError: the field cannot hold the value, or another field is set that cannot
            stand beside it.
    """
    fields = proto.DESCRIPTOR.fields_by_name
    if name not in fields:
        remedy = _messages_with(name, fields) or nearest_field(name, fields.values())
        raise FieldError(f"{proto.DESCRIPTOR.name} has no field {name!r}{remedy}")
    refuse_rival(proto, name)
    target = getattr(proto, name)
    repeated = hasattr(target, "extend")
    if isinstance(val, (tuple, np.ndarray)):
        val = list(val)
    if repeated and not isinstance(val, list):
        val = [val]
    try:
        _assign(proto, name, val, target)
    except CaffeError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueOfFieldError(f"{proto.DESCRIPTOR.name}.{name} = {val!r}: {error}") from error


def refuse_rival(message: Any, name: str) -> None:
    """Refuses to set a field beside another one that excludes it.

    Raises:
        ValueOfFieldError: that one is set.
    """
    other = rival(message, name)
    if other is not None:
        raise ValueOfFieldError(f"{message.DESCRIPTOR.name}.{name}: {only_one(name, other)}")


def _assign(proto: Any, name: str, val: Any, target: Any) -> None:
    whole = proto.DESCRIPTOR.fields_by_name[name].cpp_type in _WHOLE_NUMBERS
    if isinstance(val, dict):
        # An empty dict sets the message too.
        target.SetInParent()
        for key, value in val.items():
            assign_proto(target, key, value)
    elif not isinstance(val, list):
        setattr(proto, name, _plain(val, whole))
    elif val and isinstance(val[0], dict):
        for item in val:
            element = target.add()
            for key, value in item.items():
                assign_proto(element, key, value)
    else:
        target.extend([_plain(value, whole) for value in val])


def nearest_field(name: str, fields: Iterable[Any]) -> str:
    """The end of a message about an unknown field: the nearest one, else those of BVLC Caffe.

    The latter without messages of parameters, of which a layer has one for each type.
    """
    bvlc = [entry.name for entry in fields if entry.number not in FORK_NUMBERS]
    near = suggestion(name, bvlc)
    if near.startswith("; did you mean"):
        return near
    return suggestion(name, [one for one in bvlc if not one.endswith(PARAM_SUFFIX)])


def _messages_with(name: str, fields: Any) -> str:
    """The end of a message about a field that messages of other fields have."""
    found = [
        entry.name
        for entry in fields.values()
        if entry.message_type is not None
        and entry.number not in FORK_NUMBERS
        and name in entry.message_type.fields_by_name
    ]
    if not found:
        return ""
    return f"; {', '.join(found)} have: pass {found[0]}=dict({name}=...), or another of them"


def _plain(value: Any, whole: bool) -> Any:
    """A Python number of a numpy number; other values as they are.

    Args:
        whole: the field takes whole numbers. 2.0 is 2 then: scripts for Python 2 write n / 2.
    """
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if whole and isinstance(plain, float) and plain.is_integer() else plain
