"""The values of a net's blobs after a pass, and the gradients that users have written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch

from caffecompat.errors import BlobError
from caffecompat.graph import Version
from caffecompat.layers import Shape
from caffecompat.net.blobs.inputs import Inputs
from caffecompat.net.built_layer import BuiltLayer

# Source tops, their values, and the other values.
_Parts: TypeAlias = tuple[Sequence[Version], Sequence[torch.Tensor], Mapping[Version, torch.Tensor]]


@dataclass(frozen=True)
class Result:
    """The result of one pass.

    Attributes:
        outputs: net outputs by blob name, sorted by name.
        loss: 0-axis tensor, the sum over all blobs with a loss weight of weight times elements.
        backward: runs the backward pass, where the loss has no graph for it; else None.
    """

    outputs: dict[str, torch.Tensor]
    loss: torch.Tensor
    backward: Callable[[], None] | None = None


class BlobValues:
    """The values of a net's blobs between its passes.

    Args:
        layers: the net's layers.
        inputs: the values of the net's sources.
        device: the net's device.

    Attributes:
        last: by blob name, the last version of the blob.
    """

    def __init__(self, layers: Sequence[BuiltLayer], inputs: Inputs, device: torch.device) -> None:
        self._inputs = inputs
        self.device = device
        self._kept: dict[Version, torch.Tensor] = {}
        # Of an optimized pass, what `_values` is made of when somebody looks at it.
        self._parts: _Parts | None = None
        self._unset: dict[Version, torch.Tensor] = {}
        self._written_diffs: dict[str, torch.Tensor] = {}
        self.last = {top.blob: top for built in layers for top in built.tops}
        self._shapes: dict[Version, Shape] = {}
        self._originals: dict[Version, Version] = {}
        for built in layers:
            self._shapes.update(zip(built.tops, built.shapes, strict=True))
            if built.node.automatic:
                self._originals.update(dict.fromkeys(built.tops, built.bottoms[0]))

    @property
    def _values(self) -> dict[Version, torch.Tensor]:
        if self._parts is not None:
            tops, feeds, values = self._parts
            self._values = {**dict(zip(tops, feeds, strict=True)), **values}
        return self._kept

    @_values.setter
    def _values(self, values: dict[Version, torch.Tensor]) -> None:
        self._kept, self._parts = values, None

    def forget(self) -> None:
        """Removes the values of the previous pass."""
        self._values, self._unset = {}, {}

    def keep(self, values: Mapping[Version, torch.Tensor]) -> None:
        """Stores the values of a pass."""
        self._values = dict(values)

    def keep_parts(
        self,
        tops: Sequence[Version],
        feeds: Sequence[torch.Tensor],
        values: Mapping[Version, torch.Tensor],
    ) -> None:
        """:meth:`keep` with those of source tops apart, at less cost if nobody looks at them."""
        self._parts = tops, feeds, values

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A context after which the values are those from before it."""
        values, unset = self._values, self._unset
        try:
            yield
        finally:
            self._values, self._unset = values, unset

    def replace(self, made: Mapping[Version, torch.Tensor]) -> None:
        """Stores the values of a pass over some layers; other blobs keep theirs, detached."""
        old = {version: value.detach() for version, value in self._values.items()}
        self._values = {**self._unset, **old, **made}

    def of(self, version: Version) -> torch.Tensor:
        """The value of the last pass, or the stored input, or zeros before any pass.

        Raises:
            BlobError: the last pass did not keep it.
        """
        version = self.original(version)
        if version in self._values:
            return self._values[version]
        if version in self._inputs.values:
            return self._inputs.values[version]
        if self._values:
            raise BlobError(
                f"blob {version.blob!r} was not kept by the last training pass, or by the last "
                "pass of an optimized net; set net.observe = True before net.run, or call "
                f"net.forward(blobs=[{version.blob!r}])"
            )
        if version not in self._unset:
            # Stored, because a user may write to it before ``forward(start=...)``.
            self._unset[version] = torch.zeros(self._shapes[version], device=self.device)
        return self._unset[version]

    def shape(self, version: Version) -> Shape:
        """The shape of what :meth:`of` gives, without making zeros for it."""
        version = self.original(version)
        if self._values or version in self._unset or version in self._inputs.values:
            return tuple(self.of(version).shape)
        return self._shapes[version]

    def stored_input(self, version: Version) -> torch.Tensor | None:
        """The stored value of an input, without gradients; None for other blobs."""
        return self._inputs.values.get(version)

    def original(self, version: Version) -> Version:
        """The bottom of the split whose top is ``version``; for other blobs ``version``."""
        return self._originals.get(version, version)

    def resize_input(self, name: str, shape: Sequence[int]) -> None:
        """Gives an input blob a new shape, filled with zeros."""
        self._inputs.resize(name, shape)
        self.forget()

    def written_diff(self, name: str) -> torch.Tensor | None:
        """The gradient that a user has written, if the blob still has its shape."""
        written = self._written_diffs.get(name)
        if written is None or written.shape != self.of(self.last[name]).shape:
            return None
        return written

    def write_diff(self, name: str, diff: torch.Tensor) -> None:
        """Sets the gradient that the next backward pass starts from."""
        self._written_diffs[name] = diff
