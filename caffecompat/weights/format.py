"""The base classes of weight formats: sniff, read, write."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from caffecompat.registry import Registry
from caffecompat.weights.array_names import NamedArrays
from caffecompat.weights.weights import Weights

# Bytes from the start of a file that decide its format.
HEAD_BYTES = 4096


class Format:
    """One weight file format. Each subclass is registered in its own file in ``formats/``.

    Attributes:
        suffixes: file name suffixes that select this format for writing, with their dots; a format
            without any is selected by its name.
        keeps_indices: whether it can store layers without some of their parameters.
        holds_metadata: whether its files have the ``metadata`` of Weights in them.
        max_axes: how many axes a blob may have; None for as many as numpy allows.
        max_bytes: the limit for the size of a file and of its claimed content; None for the
            format's own limits.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    keeps_indices: ClassVar[bool] = False
    holds_metadata: ClassVar[bool] = False
    max_axes: ClassVar[int | None] = None
    max_bytes: int | None = None

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file has this format, by its first ``HEAD_BYTES`` bytes or by opening it."""
        raise NotImplementedError


class LayerFormat(Format):
    """A format that stores layers and the positions of their blobs."""

    def read(self, path: Path) -> Weights:
        """Reads a file.

        Raises:
            FileProblem: it is unreadable.
            FormatError: it is damaged or claims more than ``max_bytes``.
        """
        raise NotImplementedError

    def write(self, weights: Weights, path: Path) -> None:
        """Writes a file atomically.

        Raises:
            WeightsError: the format cannot store the weights.
        """
        raise NotImplementedError


class NamedFormat(Format):
    """A format that stores arrays by name only (state dicts); a Naming maps them to layers."""

    def read(self, path: Path) -> NamedArrays:
        """Reads a file; raises as :meth:`LayerFormat.read`."""
        raise NotImplementedError

    def write(self, named: NamedArrays, path: Path) -> None:
        """Writes a file atomically; raises as :meth:`LayerFormat.write`."""
        raise NotImplementedError


formats: Registry[type[LayerFormat] | type[NamedFormat]] = Registry(
    "weight format", "caffecompat.weights.formats"
)
