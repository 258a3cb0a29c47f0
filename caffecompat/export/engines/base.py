"""Programs that run a model, for comparisons; each is registered in a file of ``engines/``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
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
        allow_python: run files that are Python programs.
        other: the engine that this one is compared with, if it is open already.
        dialect: the fork whose layer types nets here have, see
            :class:`caffecompat.layers.BuildOptions`.
        opencv_python: the Python whose OpenCV runs Caffe's files; "" for this one.
    """

    model: str | None = None
    trust: bool = False
    max_bytes: int | None = None
    allow_python: bool = False
    other: Engine | None = None
    dialect: str = ""
    opencv_python: str = ""


class NotComparable(ExportError):
    """An engine cannot run its file beside the other engine, though nothing is wrong with it."""


class Engine:
    """One model, loaded into one program.

    Attributes:
        suffixes: file name suffixes that select the engine, with their dots.
        inputs: shapes of the inputs by name; an extent is 0 where any is accepted.
        preprocessing: what the model itself does with an image from 0 to 1; None for nothing.
        indices: for inputs that hold indices, how many values an index has; 2 for flags.
        regions: inputs (R, 5) that hold regions of images, rows [image, x1, y1, x2, y2].
        facts: inputs (1, 3) that hold height, width and scale of the image.
        given: values of inputs that the model was run with before; empty for engines that run.
        loose: values whose rows may change places where scores are equal but for rounding.
        needs_other: whether the file says too little to run without the other engine.
        has_weights: whether the model's weights are its own.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    needs_other: ClassVar[bool] = False
    has_weights: ClassVar[bool] = True

    inputs: Mapping[str, Shape]
    preprocessing: Preprocessing | None = None
    indices: Mapping[str, int] = {}
    regions: Collection[str] = ()
    facts: Collection[str] = ()
    loose: Collection[str] = ()
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


def open_pair(places: Sequence[str], options: EngineOptions) -> tuple[Engine, Engine]:
    """Two engines that are to be compared, see :func:`open_engine`.

    Raises:
        ExportError: they cannot be compared.
    """
    first, second = places
    if _find(first)[0].needs_other and not _find(second)[0].needs_other:
        other, one = open_pair((second, first), options)
        return one, other
    one = open_engine(first, options)
    other = open_engine(second, replace(options, other=one))
    for place, engine, beside in ((first, one, other), (second, other, one)):
        if not (engine.has_weights or beside.needs_other):
            raise ExportError(
                f"{place}: has no weights; give a weight file in its place, and --model {place}"
            )
    return one, other


def open_engine(where: str, options: EngineOptions) -> Engine:
    """The engine for ``NAME:PATH``, or for the suffix of ``PATH``.

    Raises:
        ExportError: no engine runs files of that suffix.
        FileProblem, FormatError, MissingExtra: see :class:`Engine`.
    """
    kind, path = _find(where)
    return kind(path, options)


def _find(where: str) -> tuple[type[Engine], Path]:
    name, colon, path = where.partition(":")
    if colon and name in engines:
        return engines.find(name), Path(path)
    for name in engines:
        if where.lower().endswith(engines.find(name).suffixes or "\0"):
            return engines.find(name), Path(where)
    raise ExportError(
        f"{where}: no engine runs such files; name one before a colon, for example "
        f"onnxruntime:{where} (known: {', '.join(engines)})"
    )


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
