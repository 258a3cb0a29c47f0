"""Calls of the methods of a Python layer, with the blobs of the net."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers.python import Python
from caffecompat.pycaffe.blob import Blob


class PythonCalls:
    """A Python layer whose user code works on blobs of a net, without copies.

    The user's exceptions are not caught.
    """

    def __init__(self, layer: Python, bottom: list[Blob], top: list[Blob]) -> None:
        self._user = layer.user
        self._bottom = bottom
        self._top = top

    def reshape(self) -> None:
        self._user.reshape(self._bottom, self._top)

    def forward(self) -> None:
        """As Caffe, reshapes the tops before each pass."""
        self.reshape()
        self._user.forward(self._bottom, self._top)

    def backward(self, propagate_down: Sequence[bool]) -> None:
        self._user.backward(self._top, list(propagate_down), self._bottom)
