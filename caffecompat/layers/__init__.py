"""The catalogue of layer types: one file per type; every file of this folder is loaded.

A layer type is a class that is registered under its name in Caffe::

    @register("ELU")
    class ELU(Layer):
        ...

:class:`caffecompat.layers._base.Layer` describes the attributes and methods of such a class,
:class:`caffecompat.layers._source.Source` those of data layers.
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
from caffecompat.layers._class_labels import ClassLabels, Indices
from caffecompat.layers._context import BuildOptions, Context
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._receptive_field import ReceptiveField
from caffecompat.layers._source import Source, source_class

__all__ = [
    "BuildOptions",
    "ClassLabels",
    "Context",
    "Indices",
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
