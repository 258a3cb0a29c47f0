"""Programs that run a model, for comparisons; each is registered in a file of ``engines/``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import ExportError
from caffecompat.layers import Shape
from caffecompat.registry import Registry

Arrays: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True)
class EngineOptions:
    """What the user chose for both engines.

    Attributes:
        model: the prototxt of weight files, which have no definition.
        trust: run files that could contain code.
        max_bytes: the limit for sizes and claims of files; None for the default.
    """

    model: str | None = None
    trust: bool = False
    max_bytes: int | None = None


class Engine:
    """One model, loaded into one program.

    Attributes:
        suffixes: file name suffixes that select the engine, with their dots.
        inputs: shapes of the inputs by name; an extent is 0 where any is accepted.
        preprocessing: what the model itself does with an image from 0 to 1; None for nothing.
        indices: for inputs that hold indices, how many values an index has.
        regions: inputs (R, 5) that hold regions of images, rows [image, x1, y1, x2, y2].
        facts: inputs (1, 3) that hold height, width and scale of the image.
        given: values of inputs that the model was run with before; empty for engines that run.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    inputs: Mapping[str, Shape]
    preprocessing: Preprocessing | None = None
    indices: Mapping[str, int] = {}
    regions: Collection[str] = ()
    facts: Collection[str] = ()
    given: Mapping[str, np.ndarray] = {}

    def __init__(self, path: Path, options: EngineOptions) -> None:
        """Loads the model.

        Raises:
            FileProblem, FormatError: the file is missing, damaged, or no model of this engine.
            MissingExtra: the engine is not installed.
            ExportError: the engine cannot load the model.
        """
        raise NotImplementedError

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs by name.

        Raises:
            ExportError: the engine fails, or an input is missing.
        """
        raise NotImplementedError

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """All values by name, in order of execution, as far as the engine shows them.

        Raises:
            ExportError: as :meth:`run`.
        """
        return self.run(inputs)


engines: Registry[type[Engine]] = Registry("engine", "caffecompat.export.engines")
"""Engines by name, one file each; a new file needs no other change."""


def open_engine(where: str, options: EngineOptions) -> Engine:
    """The engine for ``NAME:PATH``, or for the suffix of ``PATH``.

    Raises:
        ExportError: no engine runs files of that suffix.
        FileProblem, FormatError, MissingExtra: see :class:`Engine`.
    """
    name, colon, path = where.partition(":")
    if colon and name in engines:
        return engines.find(name)(Path(path), options)
    found = _by_suffix(Path(where))
    if found is None:
        raise ExportError(
            f"{where}: no engine runs such files; name one before a colon, for example "
            f"onnxruntime:{where} (known: {', '.join(engines)})"
        )
    return engines.find(found)(Path(where), options)


def _by_suffix(path: Path) -> str | None:
    for name in engines:
        if path.name.lower().endswith(engines.find(name).suffixes or "\0"):
            return name
    return None


def check_inputs(engine: Engine, inputs: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuses to run without all inputs.

    Raises:
        ExportError: names those that are missing.
    """
    missing = [name for name in engine.inputs if name not in inputs]
    if missing:
        raise ExportError(
            f"{path}: needs the inputs {', '.join(map(repr, missing))}, found "
            f"{', '.join(map(repr, inputs)) or 'none'}"
        )
