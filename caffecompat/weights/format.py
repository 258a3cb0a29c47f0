"""The contract between a weight format and the rest: sniff, read, write."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from caffecompat.registry import Registry
from caffecompat.weights.array_names import NamedArrays
from caffecompat.weights.weights import Weights

HEAD = 4096


class Format:
    """One kind of weight file. A subclass is registered in ``formats/``, one file each.

    Attributes:
        suffixes: file name endings that choose this format for writing, with their dots; a format
            without any is chosen by its name.
        keeps_indices: it can hold layers that leave out some of their parameters.
        most_axes: how many axes a blob may have; None for as many as numpy knows.
        max_bytes: the largest file to read, and the most that it may claim to hold; None for the
            format's own limits.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    keeps_indices: ClassVar[bool] = False
    most_axes: ClassVar[int | None] = None
    max_bytes: int | None = None

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file is of this format, by its first ``HEAD`` bytes or by opening it."""
        raise NotImplementedError


class LayerFormat(Format):
    """A format that knows layers and the positions of their blobs."""

    def read(self, path: Path) -> Weights:
        """Raises FormatError where the content is damaged or claims more than ``max_bytes``,
        FileProblem where it is unreadable."""
        raise NotImplementedError

    def write(self, weights: Weights, path: Path) -> None:
        """Writes beside and renames; raises WeightsError for what the format cannot hold."""
        raise NotImplementedError


class NamedFormat(Format):
    """A format that knows arrays by name only (state dicts); a Naming relates them to layers."""

    def read(self, path: Path) -> NamedArrays:
        """Raises FormatError where the content is damaged or claims more than ``max_bytes``,
        FileProblem where it is unreadable."""
        raise NotImplementedError

    def write(self, named: NamedArrays, path: Path) -> None:
        """Writes beside and renames; raises WeightsError for what the format cannot hold."""
        raise NotImplementedError


formats: Registry[type[LayerFormat] | type[NamedFormat]] = Registry(
    "weight format", "caffecompat.weights.formats"
)
