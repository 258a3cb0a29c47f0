"""What every weight format is read into and written from."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass, field

import numpy as np

from caffecompat.errors import BlobError, WeightsError, suggestion


@dataclass(eq=False)
class LayerWeights:
    """The parameters of one layer, in Caffe's blob order.

    Arrays read from a caffemodel are views into the mapped file where it holds plain packed
    floats: nothing is loaded before it is looked at. They may lie at odd addresses
    (``array.flags.aligned`` False). Writing to them changes memory only, never the file.

    Attributes:
        name: the layer's name; Caffe matches layers by it alone.
        type: Caffe's current type name ("Convolution"), whatever generation the file is of;
            empty where the format does not know it.
        blobs: float32 arrays.
        diffs: gradients, one per blob and of its shape, where the file has any.
        legacy: per blob, whether its shape came from the old sizes num, channels, height and
            width, which Caffe compares with the net's shape padded with ones at the front.
        bottoms, tops, phase: the layer's wiring, and 0 for TRAIN or 1 for TEST, where known;
            only caffemodels carry them.
        stored: per blob, how its numbers stand in the file it was read from ("float32",
            "float64", "float16"); a note that writing does not look at.
        indices: per blob, which of the layer's parameters it is, where a file leaves out shared
            ones (HDF5 does); None means 0, 1, 2, ...
    """

    name: str
    type: str = ""
    blobs: list[np.ndarray] = field(default_factory=list)
    diffs: list[np.ndarray] | None = None
    legacy: list[bool] = field(default_factory=list)
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    phase: int | None = None
    stored: list[str] = field(default_factory=list)
    indices: list[int] | None = None

    def __post_init__(self) -> None:
        self.legacy = self.legacy or [False] * len(self.blobs)

    def check(self, place: str) -> None:
        """Raises WeightsError where blobs, gradients and marks do not match each other."""
        who = f"{place}: layer {self.name!r} ({self.type})"
        if len(self.legacy) != len(self.blobs):
            raise WeightsError(
                f"{who} has {len(self.blobs)} blobs, but {len(self.legacy)} legacy marks"
            )
        if self.diffs and [d.shape for d in self.diffs] != [b.shape for b in self.blobs]:
            raise WeightsError(f"{who} has gradients of other shapes than its blobs")
        for index, array in enumerate([*self.blobs, *(self.diffs or ())]):
            if array.dtype.kind not in "fiu":
                raise WeightsError(f"{who}: array {index} holds {array.dtype}, expected numbers")

    def __repr__(self) -> str:
        shapes = ", ".join("x".join(map(str, blob.shape)) or "()" for blob in self.blobs)
        return f"LayerWeights({self.name!r}, {self.type!r}, [{shapes}])"


class Weights(Mapping[str, LayerWeights]):
    """The layers of one weight file, in file order.

    ``layers`` holds them all. As a mapping it goes from name to the last layer of that name,
    because Caffe copies in file order and the last one stays.

    Args:
        layers: the layers.
        net_name: the name of the net, where the file has one.
        path: the file they came from, for messages.
        format: the name of the format they were read from ("caffemodel", "hdf5", ...).

    Attributes:
        generation: of a caffemodel, "V0", "V1" or "V2".
        dialect: the fork of Caffe that wrote it, where its layout tells ("NVCaffe").
    """

    def __init__(
        self,
        layers: Iterable[LayerWeights] = (),
        net_name: str = "",
        path: str = "",
        format: str = "",  # noqa: A002 - the word that save_weights has for it
    ) -> None:
        self.layers = list(layers)
        self.net_name = net_name
        self.path = path
        self.format = format
        self.generation = ""
        self.dialect = ""

    def __getitem__(self, name: str) -> LayerWeights:
        """The last layer called ``name``.

        Raises:
            BlobError: there is none.
        """
        for layer in reversed(self.layers):
            if layer.name == name:
                return layer
        where = f"{self.path}: " if self.path else ""
        raise BlobError(f"{where}no layer {name!r}{suggestion(name, self)}")

    def __contains__(self, name: object) -> bool:
        return any(layer.name == name for layer in self.layers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name())

    def __len__(self) -> int:
        return len(self._by_name())

    def values(self) -> ValuesView[LayerWeights]:
        """Of each name the last layer, in order of the names' first appearance."""
        return self._by_name().values()

    def items(self) -> ItemsView[str, LayerWeights]:
        return self._by_name().items()

    def _by_name(self) -> dict[str, LayerWeights]:
        """Made anew each time, since ``layers`` may be changed at will."""
        return {layer.name: layer for layer in self.layers}

    def __repr__(self) -> str:
        return f"Weights({self.net_name!r}, {self.layers!r})"


def as_float32(array: np.ndarray) -> np.ndarray:
    """``array`` as native float32, the same array where it is that already.

    Numbers out of float32's range become infinite, as in Caffe.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)
