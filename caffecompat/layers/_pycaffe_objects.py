"""What a Python layer finds of pycaffe: its blobs, its phase, and the module ``caffe``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

from caffecompat.layers._base import Message, Shape


class NumpyBlob:
    """A blob of a Python layer, as in pycaffe: ``data`` and ``diff`` are float32 arrays."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.reshape(*shape)

    def reshape(self, *shape: int) -> None:
        import numpy as np

        if getattr(self, "_shape", None) != tuple(shape):
            self._shape = tuple(int(extent) for extent in shape)
            self.data = np.zeros(self._shape, np.float32)
            self.diff = np.zeros(self._shape, np.float32)

    @property
    def shape(self) -> Shape:
        return self._shape

    @property
    def count(self) -> int:
        return prod(self._shape)

    num = property(lambda self: self._legacy(0))
    channels = property(lambda self: self._legacy(1))
    height = property(lambda self: self._legacy(2))
    width = property(lambda self: self._legacy(3))

    def _legacy(self, axis: int) -> int:
        return self._shape[axis] if axis < len(self._shape) else 1


class BlobVector(list[NumpyBlob]):
    """``self.blobs`` of a Python layer."""

    def add_blob(self, *shape: int) -> None:
        """Adds a parameter blob; call it in ``setup``."""
        self.append(NumpyBlob(shape))


class PhaseNumber(int):
    """0 or 1, as BVLC Caffe says, which prints as TRAIN or TEST.

    So does the phase of the Python layers in the forks for detection, whose layers look up
    ``str(self.phase)``.
    """

    def __str__(self) -> str:
        return "TEST" if self else "TRAIN"


class PythonLayerBase:
    """The class ``caffe.Layer``, from which Python layers derive."""

    def __init__(self, message: Message | None = None) -> None:
        """Does nothing; a subclass may pass its LayerParameter on, as in Caffe."""

    param_str: str
    param_str_: str
    phase: int
    blobs: BlobVector


@contextmanager
def pycaffe_name() -> Iterator[None]:
    """Makes ``import caffe`` give pycaffe's interface of this package, if no other is installed."""
    # It lies above this package, and is there for the user's code alone.
    installing = importlib.import_module("caffecompat.pycaffe.running.installing")
    with installing.provided():
        yield
