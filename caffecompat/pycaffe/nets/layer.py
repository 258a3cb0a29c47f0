"""Layers as pycaffe shows them, and ``caffe.Layer``, from which Python layers derive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffecompat.layers import catalogue
from caffecompat.layers._pycaffe_objects import PythonLayerBase
from caffecompat.layers._python_equivalent import PythonEquivalent
from caffecompat.layers.python import Python
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.pycaffe.blob import Blob, BlobVec


class Layer(PythonLayerBase):
    """Base class of Python layers.

    A subclass defines ``setup``, ``reshape`` and ``forward`` with the arguments ``(bottom, top)``,
    sequences of blobs, and ``backward`` with ``(top, propagate_down, bottom)``.

    Attributes:
        param_str: of the layer's definition.
        phase: ``TRAIN`` (0) or ``TEST`` (1).
        blobs: the layer's parameters; ``self.blobs.add_blob(*shape)`` in ``setup`` adds one.
    """

    type = Python.type
    blobs: Any = ()

    def setup(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """Runs once, when the net is built."""
        raise NotImplementedError(f"Python layer {type(self).__name__} has no setup(bottom, top)")

    def reshape(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """Gives the tops their shapes; runs after ``setup`` and before each ``forward``."""
        raise NotImplementedError(f"Python layer {type(self).__name__} has no reshape(bottom, top)")


class BuiltInLayer:
    """A layer of a net that is not written in Python.

    Attributes:
        type: the layer type.
        blobs: its parameters.
    """

    def __init__(self, built: BuiltLayer, blobs: list[Blob]) -> None:
        self._layer = built.layer
        self._name = built.name
        self.type = built.type
        self.blobs = BlobVec(blobs)

    def setup(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """Does nothing: the layer was set up when the net was built."""

    def reshape(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """Does nothing: the layer takes its shapes from its bottoms in each pass."""

    def __getattr__(self, name: str) -> Any:
        """The methods of a built-in equivalent of a Python layer that programs call."""
        layer = self.__dict__.get("_layer")
        if isinstance(layer, PythonEquivalent) and name in layer.methods:
            return getattr(layer, name)
        raise AttributeError(f"{self!r} has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<layer {self._name!r} ({self.type})>"


def layer_type_list() -> list[str]:
    """The names of all layer types, as ``type`` of a layer in a definition has them."""
    return sorted({catalogue.find(name).type for name in catalogue})
