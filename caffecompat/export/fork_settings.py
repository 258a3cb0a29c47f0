"""Settings of forks that a target of an export does not know."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers import catalogue
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
