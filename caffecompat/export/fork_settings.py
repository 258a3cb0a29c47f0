"""Which definition of a layer type is meant, and settings of forks that a target does not know."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers import catalogue
from caffecompat.layers._python_equivalent import PythonEquivalent
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.proto.fork_fields import effective_fields

# Whatever target: rounding is part of the windows.
_KNOWN = ("pooling_param.ceil_mode",)


def unwritten_settings(built: BuiltLayer, known: Sequence[str] = _KNOWN) -> str:
    """What a layer has of forks that code for BVLC Caffe's definition of its type would miss.

    Args:
        built: the layer.
        known: the fields of forks that the code knows.

    Returns:
        The fields, or the fork whose definition of the type the layer has; empty if the code for
        the type's name fits.
    """
    if built.layer is None:
        return ""
    definitions = catalogue.definitions(built.type)
    if not definitions or definitions[0].fork:
        # The type is no type of BVLC's, so that code for it is code for a fork's.
        return ""
    if built.layer.fork:
        return f"of {built.layer.fork}'s {built.type}"
    fields = [one.path for one in effective_fields(built.node.message)]
    ignored = built.layer.ignored_fork_fields
    return ", ".join(path for path in fields if path not in known and path not in ignored)


def writer_name(built: BuiltLayer) -> str:
    """The name that the writer of a layer is registered under.

    It is the layer's type, and before it the fork whose definition of one of BVLC's types is meant:
    ``NVCaffe BatchNorm``. For a Python layer that is built in it is the name of its class.
    """
    if isinstance(built.layer, PythonEquivalent):
        return type(built.layer).__name__
    fork = redefined_by(built)
    return f"{fork} {built.type}" if fork else built.type


def redefined_by(built: BuiltLayer) -> str:
    """The fork whose definition of one of BVLC's types is meant; "" if it is BVLC's."""
    if built.layer is None or all(one.fork for one in catalogue.definitions(built.type)):
        return ""
    return built.layer.fork
