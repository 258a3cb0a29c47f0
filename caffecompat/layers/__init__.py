"""The catalogue of layer types: one file per type, found by presence.

A type is a class registered under Caffe's name for it::

    @register("ELU")
    class ELU(Layer):
        ...

See :class:`caffecompat.layers._base.Layer` for what such a class says, and for sources of data
:class:`caffecompat.layers._source.Source`.
"""

from caffecompat.layers._base import (
    Layer,
    Shape,
    at_least,
    between,
    catalogue,
    exactly,
    register,
)
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.layers._context import BuildOptions, Context
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._receptive_field import ReceptiveField
from caffecompat.layers._source import Source, source_class

__all__ = [
    "BuildOptions",
    "ClassLabels",
    "Context",
    "Layer",
    "LossReduction",
    "ReceptiveField",
    "Shape",
    "Source",
    "at_least",
    "between",
    "catalogue",
    "exactly",
    "register",
    "source_class",
]
