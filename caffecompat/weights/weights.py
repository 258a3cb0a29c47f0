"""The in-memory form of weight files of all formats."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffecompat.errors import BlobError, WeightsError, suggestion
from caffecompat.reporting.units import format_shape


@dataclass(eq=False)
class LayerWeights:
    """The parameters of one layer, in Caffe's blob order.

    It is a sequence of its blobs: ``weight, bias = layer``, or ``layer[0]``.

    Arrays from a caffemodel with packed floats are views into the mapped file, loaded on access.
    They may be unaligned (``array.flags.aligned`` False). Writing to them changes memory only,
    never the file.

    Attributes:
        name: the layer's name; Caffe matches layers by name only.
        type: Caffe's current type name ("Convolution") for files of any generation; empty if the
            format does not store it.
        blobs: float32 arrays.
        diffs: gradients, one per blob and of its shape; None if the file has none.
        legacy: per blob, whether its shape came from the legacy sizes num, channels, height and
            width, which Caffe compares with the net's shape with leading ones.
        bottoms, tops, phase: the layer's wiring, and 0 for TRAIN or 1 for TEST, if known; only
            caffemodels have them.
        stored: per blob, the number type in the file ("float32", "float64", "float16"); writing
            ignores it.
        indices: per blob, the index of the layer's parameter, if a file leaves out shared ones
            (as HDF5 does); None means 0, 1, 2, ...
        shared: positions of blobs that another layer owns; an HDF5 file leaves out their values.
        settings: the layer's other settings for a caffemodel, as protobuf writes them: the fields
            before the blobs, and those behind them with the phase. Files are read without them.
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
    shared: frozenset[int] = frozenset()
    settings: tuple[bytes, bytes] | None = None

    def __post_init__(self) -> None:
        self.legacy = self.legacy or [False] * len(self.blobs)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.blobs[index]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.blobs)

    def __len__(self) -> int:
        return len(self.blobs)

    def check(self, place: str) -> None:
        """Raises WeightsError if blobs, gradients and legacy flags do not match each other."""
        who = f"{place}: layer {self.name!r} ({self.type})"
        if len(self.legacy) != len(self.blobs):
            raise WeightsError(
                f"{who} has {len(self.blobs)} blobs, but {len(self.legacy)} legacy flags"
            )
        if self.diffs and [d.shape for d in self.diffs] != [b.shape for b in self.blobs]:
            raise WeightsError(f"{who} has gradients of other shapes than its blobs")
        for index, array in enumerate([*self.blobs, *(self.diffs or ())]):
            if array.dtype.kind not in "fiu":
                raise WeightsError(f"{who}: array {index} holds {array.dtype}, expected numbers")

    def __repr__(self) -> str:
        shapes = ", ".join(format_shape(blob.shape) for blob in self.blobs)
        return f"LayerWeights({self.name!r}, {self.type!r}, [{shapes}])"


class Weights(Mapping[str, LayerWeights]):
    """The layers of one weight file, in file order.

    ``layers`` has all of them. The mapping gives the last layer of each name, because Caffe copies
    layers in file order and the last one overwrites the others.

    Args:
        layers: the layers.
        net_name: the name of the net, if the file has one.
        path: the file that they were read from, for messages.
        format: the format that they were read from ("caffemodel", "hdf5", ...).

    Attributes:
        generation: "V0", "V1" or "V2" for a caffemodel, else empty.
        dialect: the fork of Caffe that wrote the file, if its layout shows it ("NVCaffe").
        metadata: text that travels with the weights in formats that can hold it: "prototxt", the
            net's definition, and "preprocessing", that of images as JSON.
    """

    def __init__(
        self,
        layers: Iterable[LayerWeights] = (),
        net_name: str = "",
        path: str = "",
        format: str = "",  # noqa: A002 - the same name as in save_weights
    ) -> None:
        self.layers = list(layers)
        self.net_name = net_name
        self.path = path
        self.format = format
        self.generation = ""
        self.dialect = ""
        self.metadata: dict[str, str] = {}

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
        """The last layer of each name, in order of the names' first appearance."""
        return self._by_name().values()

    def items(self) -> ItemsView[str, LayerWeights]:
        return self._by_name().items()

    def _by_name(self) -> dict[str, LayerWeights]:
        """Computed at each call, because callers may change ``layers``."""
        return {layer.name: layer for layer in self.layers}

    def __repr__(self) -> str:
        return f"Weights({self.net_name!r}, {self.layers!r})"


def weights_of(arrays: Mapping[str, Sequence[Any]], place: str) -> Weights:
    """Weights of arrays by layer name: ``{"conv1": [weight, bias]}``, as ``net.params`` are.

    Args:
        arrays: for each layer its parameters in Caffe's order: arrays, or tensors of torch on any
            device.
        place: for messages: what the arrays are for.

    Raises:
        WeightsError: a value is no sequence of arrays.
    """
    layers = []
    for name, values in arrays.items():
        if hasattr(values, "shape") or not isinstance(values, Iterable):
            raise WeightsError(
                f"{place}: layer {name!r}: found {type(values).__name__}, expected a list of its "
                "parameters in Caffe's order, such as [weight, bias]; write a state dict with "
                "torch.save, to a file that caffecompat convert reads"
            )
        layers.append(LayerWeights(name, blobs=[_host_array(value) for value in values]))
    return Weights(layers)


def _host_array(value: Any) -> np.ndarray:
    """An array; of a tensor of torch, which may be on a GPU or have a gradient, its values."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def as_float32(array: np.ndarray) -> np.ndarray:
    """``array`` as native float32; not copied if it is float32 already.

    Values outside float32's range become infinite, as in Caffe.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)
