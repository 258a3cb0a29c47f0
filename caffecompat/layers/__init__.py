"""The catalogue of layer types: one file per type, found by presence.

A type is a class registered under Caffe's name for it::

    @register("ELU")
    class ELU(Layer):
        ...

See :class:`caffecompat.layers._base.Layer` for what such a class says.
"""

from caffecompat.layers._base import (
    Layer,
    Shape,
    Source,
    at_least,
    between,
    catalogue,
    exactly,
    register,
)
from caffecompat.layers._context import BuildOptions, Context

__all__ = [
    "BuildOptions",
    "Context",
    "Layer",
    "Shape",
    "Source",
    "at_least",
    "between",
    "catalogue",
    "exactly",
    "register",
]
