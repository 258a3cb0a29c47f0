"""The base class of the forms in which a model can be written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from caffecompat.export.model import CaffeModel
from caffecompat.registry import Registry


@dataclass(frozen=True)
class TargetOptions:
    """What the user chose for a target; each target reads what concerns it.

    Attributes:
        fold_preprocessing: put mean, scale and channel order into the model's own graph, so that
            its input is RGB from 0 to 1.
        program: the program that will read the file ("opencv5"), or "" for any.
    """

    fold_preprocessing: bool = False
    program: str = ""


class Target:
    """One form in which a model can be written; each is registered in a file of ``targets/``.

    Args:
        options: what the user chose.

    Attributes:
        suffixes: file name suffixes that select this form, with their dots.
        engine: the name of the engine (``engines/``) that runs such a file, for the comparison of
            source and target after writing, see ``verify/verification.py``. None if nothing runs
            the file.
        holds_preprocessing: whether the file has the preprocessing in it; for the others a JSON
            file is written beside.
        folds_preprocessing: whether it can do mean, scale and channel order itself.
        is_definition: whether the file is a definition, without weights, which training may need.
        programs: the engines of this form that ``--for`` can name.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    engine: ClassVar[str | None] = None
    holds_preprocessing: ClassVar[bool] = False
    folds_preprocessing: ClassVar[bool] = False
    is_definition: ClassVar[bool] = False
    programs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: TargetOptions | None = None) -> None:
        self.options = options or TargetOptions()

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
