"""The base class of the forms in which a model can be written."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from caffecompat.export.model import CaffeModel
from caffecompat.registry import Registry


class Target:
    """One form in which a model can be written; each is registered in a file of ``targets/``.

    Attributes:
        suffixes: file name suffixes that select this form, with their dots.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    def refuse(self, model: CaffeModel) -> None:
        """Raises an error if this form cannot hold the model; nothing has been written yet.

        Raises:
            ExportError: names all layers that cannot be written, and why.
        """

    def write(self, model: CaffeModel, path: Path) -> None:
        """Writes the model atomically.

        Raises:
            ExportError: as :meth:`refuse`.
            FileProblem: the file cannot be written.
        """
        raise NotImplementedError

    def loading_lines(self, model: CaffeModel, path: Path) -> list[str]:
        """Lines to paste into a program that loads the file."""
        raise NotImplementedError


targets: Registry[type[Target]] = Registry("target", "caffecompat.export.targets")
"""Forms in which a model can be written, one file each; a new file needs no other change."""
