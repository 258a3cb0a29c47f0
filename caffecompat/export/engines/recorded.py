"""Values that Caffe computed and that were recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, engines
from caffecompat.net.analysis.replay import read_case

INPUT, OUTPUT = "in/", "out/"


@engines.register("recorded")
class Recorded(Engine):
    """An ``.npz`` of one pass, as ``tools/record_caffe.py`` writes it: ``in/...``, ``out/...``."""

    suffixes = (".npz",)

    def __init__(self, path: Path, options: EngineOptions) -> None:
        case = read_case(path, options.max_bytes)
        self.given = _part(case, INPUT)
        self._values = _part(case, OUTPUT)
        self.inputs = {name: value.shape for name, value in self.given.items()}
        if not self._values:
            raise FormatError(
                f"{path}: has no recorded outputs; their keys start with {OUTPUT!r}, as "
                "tools/record_caffe.py writes them"
            )

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return dict(self._values)


def _part(case: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    return {
        key.removeprefix(prefix): value.astype(np.float32)
        for key, value in case.items()
        if key.startswith(prefix) and value.dtype.kind in "fiu"
    }
