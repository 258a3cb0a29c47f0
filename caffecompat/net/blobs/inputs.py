"""The inputs of a net: the tops of its sources, read from data or set by the user."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, preserve_format

from caffecompat.data.loader.crop_form import CropForm
from caffecompat.data.transforms.deferred_crops import DeferredCrops
from caffecompat.errors import BlobError, CaffeError, NetError, suggestion
from caffecompat.graph import Version
from caffecompat.net.allocation import zeros
from caffecompat.net.blobs.array_view import plain_array
from caffecompat.net.blobs.host_to_device import Transfer, page_locked
from caffecompat.net.blobs.index_checks import accepted_numbers, check_numbers
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.kernels.choice import TORCH_OPERATORS
from caffecompat.net.kernels.input_normalisation import BlobForm, Crops, normalised
from caffecompat.net.structure import input_names
from caffecompat.weights.blob_shapes import MAX_AXES

Array: TypeAlias = np.ndarray | torch.Tensor


class Inputs:
    """The values of a net's source tops, on its device.

    The values of Input layers are kept from pass to pass.

    Attributes:
        names: names of the tops of Input layers.
        seconds_reading: the time spent waiting for data.
        memory_format: the memory format of values with four axes.
        kernels: which Triton kernels compute values.
        stored: the tops that a convolution alone reads, and with how many channels it takes them
            best. Where torch casts to 16 bits (autocast), pixels become 16-bit numbers there.
    """

    def __init__(self, layers: Sequence[BuiltLayer], device: torch.device) -> None:
        self._sources = [built for built in layers if built.source is not None]
        self.names = input_names(layers)
        self.seconds_reading = 0.0
        self.memory_format = torch.preserve_format
        self.kernels = TORCH_OPERATORS
        self.stored: Mapping[Version, int] = {}
        self._transfer = Transfer()
        self._accepted = accepted_numbers(layers)
        self._ahead: _Ahead | None = None
        # Of the numbers of inputs; a batch in 16 bits does not change their type.
        self._like = torch.empty(0, device=device)
        self._dtype_on_cpu = self._like.dtype if self._like.is_cpu else None
        self._values = {
            top: zeros(built, shape, device, layers)
            for built in self._sources
            for top, shape in zip(built.tops, built.shapes, strict=True)
        }
        # Those of an optimized pass, in their order, until somebody looks at `values`.
        self._given: list[torch.Tensor] = []

    @property
    def values(self) -> dict[Version, torch.Tensor]:
        """The current value of each source top, without gradients; zeros initially."""
        if self._given:
            self._values = dict(zip(self._values, [v.detach() for v in self._given], strict=True))
            self._given = []
        return self._values

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A context after which the values are those from before it."""
        before = dict(self.values)
        try:
            yield
        finally:
            self._values, self._given = before, []

    def feeds(self, index: int, given: Mapping[str, Array]) -> list[torch.Tensor]:
        """The values for pass ``index``; tops whose values are ``given`` by name are not read.

        Raises:
            BlobError: there is no input with a given name.
            NetError: a value is not an array of numbers.
        """
        by_version = self._by_version(given)
        for built in self._sources:
            if not all(top in by_version for top in built.tops):
                self.read(built, index)
        self.values.update({top: value.detach() for top, value in by_version.items()})
        return [by_version.get(top, value) for top, value in self.values.items()]

    def all_given(self, given: Mapping[str, Array]) -> list[torch.Tensor] | None:
        """What :meth:`feeds` returns and keeps, where each value is given and needs no change.

        Returns:
            None for all other values, of which nothing is kept.
        """
        if len(given) != len(self._values):
            return None
        feeds: list[Tensor] = []
        for top in self._values:
            value = given.get(top.blob)
            if type(value) is ndarray and value.dtype == np.float32:
                value = torch.from_numpy(plain_array(value, top.blob))
            if type(value) is not Tensor or value.requires_grad or not self._is_plain(value):
                return None
            if value.dim() > MAX_AXES:
                return None
            feeds.append(value)
        self._given = feeds
        return feeds

    def give(self, given: Mapping[str, Array]) -> dict[Version, torch.Tensor]:
        """Stores values by name, without reading data; returns them without gradients."""
        fresh = {top: value.detach() for top, value in self._by_version(given).items()}
        self.values.update(fresh)
        return fresh

    def in_order(self, tensors: Sequence[Any], names: Sequence[str]) -> dict[str, Array]:
        """Values by name, for a call that gives them by position.

        Args:
            tensors: the values.
            names: the tops of the net's Input layers; if there are none, those of data layers.

        Raises:
            NetError: there are more values than names.
        """
        names = names or [top.blob for top in self.values]
        if len(tensors) and isinstance(tensors[-1], tuple):
            tensors = _without_defaults(tensors)
        if len(tensors) > len(names):
            raise NetError(
                f"{len(tensors)} inputs were given, the net takes {len(names)}"
                + (f": {', '.join(names)}" if names else "")
            )
        return dict(zip(names, tensors, strict=False))

    def _by_version(self, given: Mapping[str, Array]) -> dict[Version, torch.Tensor]:
        # Tensors are not copied, so that gradients flow to the caller's graph; arrays are copied,
        # because the caller may change them before the backward pass.
        by_version = {
            self.version(name): self.tensor(
                value if isinstance(value, torch.Tensor) else plain_array(value, f"input {name!r}")
            )
            for name, value in given.items()
        }
        for top, value in by_version.items():
            _check_axes(top.blob, value.shape)
        return by_version

    def read_ahead(self, index: int) -> None:
        """Reads the batch of pass ``index``, the next one, and copies it to the device."""
        try:
            batch = {built.key: self._fetch(built, index) for built in self._sources}
            self._ahead = _Ahead(index, self._half, batch)
        except CaffeError:
            # The pass itself will raise the error.
            self._ahead = None

    def read(self, built: BuiltLayer, index: int) -> tuple[torch.Tensor, ...]:
        """The tops of one source for pass ``index``; the values of Input layers are kept."""
        if self._ahead is not None and not self._ahead.is_for(index, self._half):
            self._ahead = None
        if self._ahead is not None and built.key in self._ahead.batch:
            fresh = self._ahead.batch.pop(built.key)
        else:
            fresh = self._fetch(built, index)
        if fresh is not None:
            self.values.update(zip(built.tops, fresh, strict=True))
        return tuple(self.values[top] for top in built.tops)

    def _fetch(self, built: BuiltLayer, index: int) -> list[torch.Tensor] | None:
        assert built.source is not None
        built.source.crop_form = self._crop_form() if self._on_gpu else None
        read = built.source.read_for_gpu if self._on_gpu else built.source.read
        started = time.perf_counter()
        arrays = read(index)
        self.seconds_reading += time.perf_counter() - started
        if arrays is None:
            return None
        if self._on_gpu:
            self._check_numbers(built, arrays)
        blobs = [
            self._blob(array, self._form(top))
            if isinstance(array, DeferredCrops)
            else self.tensor(array)
            for top, array in zip(built.tops, arrays, strict=True)
        ]
        if built.rows is not None:
            blobs = [blob[rows] for blob, rows in zip(blobs, built.rows, strict=True)]
        return blobs

    def _crop_form(self) -> CropForm:
        return CropForm(self.memory_format is torch.channels_last, page_locked)

    def _check_numbers(self, built: BuiltLayer, arrays: Sequence[Array | DeferredCrops]) -> None:
        """Raises DataError for labels and indices that would fail inside a kernel."""
        for top, array in zip(built.tops, arrays, strict=False):
            if isinstance(array, np.ndarray) and top in self._accepted:
                check_numbers(top.blob, array, self._accepted[top])

    @property
    def _half(self) -> torch.dtype | None:
        """The 16-bit type to which torch casts what convolutions take; None if it does not."""
        kind = self._like.device.type
        if not self.stored or not torch.is_autocast_enabled(kind):
            return None
        return torch.get_autocast_dtype(kind)

    def _form(self, top: Version) -> BlobForm:
        """The form of a top whose pixels come as bytes."""
        half, last = self._half, self.memory_format is torch.channels_last
        if half is None or top not in self.stored:
            return BlobForm(self._like.dtype, last)
        return BlobForm(half, last, self.stored[top] if last else 0)

    def _blob(self, crops: DeferredCrops, form: BlobForm) -> torch.Tensor:
        """The blob of crops that are copied to the device as bytes."""

        def sent(array: np.ndarray | None) -> torch.Tensor | None:
            if array is None:
                return None
            order = self.memory_format if array.ndim == 4 else torch.preserve_format
            return self._transfer.move(torch.from_numpy(array), self._like.device, order)

        pixels, mean, shifts = (sent(a) for a in (crops.pixels, crops.mean, crops.shifts))
        assert pixels is not None
        received = Crops(pixels, mean, shifts, crops.scale)
        return normalised(received, form, self.kernels.normalisation)

    def resize(self, name: str, shape: Sequence[int]) -> None:
        """Gives an input a new shape, filled with zeros."""
        version = self.version(name)
        _check_axes(name, shape)
        self.values[version] = self.values[version].new_zeros(tuple(shape))

    def version(self, name: str) -> Version:
        """The source top called ``name``.

        Raises:
            BlobError: there is none.
        """
        version = Version(name)
        if version not in self.values:
            known = [top.blob for top in self.values]
            raise BlobError(f"no input blob {name!r} in this net{suggestion(name, known)}")
        return version

    def tensor(self, value: Array) -> torch.Tensor:
        """``value`` on the net's device, in the net's floating point type."""
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        if not self.values or self._is_plain(tensor):
            return tensor
        tensor = tensor.to(self._like.dtype)
        form = self.memory_format if tensor.dim() == 4 else torch.preserve_format
        return self._transfer.move(tensor, self._like.device, form)

    def _is_plain(self, tensor: Tensor) -> bool:
        """Whether a tensor on the CPU is an input as it is."""
        if tensor.dtype is not self._dtype_on_cpu or not tensor.is_cpu:
            return False
        return self.memory_format is preserve_format or tensor.dim() != 4

    @property
    def _on_gpu(self) -> bool:
        return any(value.device.type == "cuda" for value in self.values.values())

    def apply(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Moves or casts all values, as torch does with a module's buffers."""
        self._ahead = None
        self._like = change(self._like)
        self._dtype_on_cpu = self._like.dtype if self._like.is_cpu else None
        self._values = {top: change(value) for top, value in self.values.items()}


@dataclass(frozen=True)
class _Ahead:
    """A batch that was read before its pass: for which pass, and in which 16-bit type."""

    index: int
    half: torch.dtype | None
    batch: dict[str, list[torch.Tensor] | None]

    def is_for(self, index: int, half: torch.dtype | None) -> bool:
        return (self.index, self.half) == (index, half)


def _without_defaults(tensors: Sequence[Any]) -> Sequence[Array]:
    """The values before the defaults of ``start``, ``end`` and ``blobs`` of a forward pass.

    torch's tracing ONNX export gives defaults of keywords by position.
    """
    count = len(tensors)
    while count and (tensors[count - 1] is None or tensors[count - 1] == ()):
        count -= 1
    return tensors[:count]


def _check_axes(name: str, shape: Sequence[int]) -> None:
    if len(shape) > MAX_AXES:
        raise BlobError(
            f"input {name!r}: a shape of {len(shape)} axes, at most {MAX_AXES} are allowed"
        )
