"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import ExportError, MissingExtra, first_line
from caffecompat.export.engine import Arrays, Engine, EngineOptions, check_inputs, engines
from caffecompat.export.onnx_file import (
    input_shapes,
    preprocessing_inside,
    read_onnx,
    with_all_values,
)

ERRORS_ONLY = 4  # of its log levels: fatal


@engines.register("onnxruntime")
class OnnxRuntime(Engine):
    """A session on the CPU."""

    suffixes = (".onnx",)

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._path = path
        self._model = read_onnx(path, options.max_bytes)
        self.inputs = input_shapes(self._model)
        self.preprocessing = preprocessing_inside(self._model, path)
        self._session = self._open(self._model)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        names = [value.name for value in self._model.graph.output]
        return self._run(self._session, names, inputs)

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        model, names = with_all_values(self._model)
        return self._run(self._open(model), names, inputs)

    def _open(self, model: Any) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("ONNX Runtime", "onnx") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        try:
            # Without its own second attempt, which prints a banner.
            return onnxruntime.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=0,
            )
        except Exception as error:  # its exceptions derive from RuntimeError and from Exception
            raise ExportError(
                f"{self._path}: ONNX Runtime cannot load it: {first_line(error)}"
            ) from error

    def _run(self, session: Any, names: list[str], inputs: Mapping[str, np.ndarray]) -> Arrays:
        check_inputs(self, inputs, self._path)
        feeds = {name: inputs[name] for name in self.inputs}
        try:
            values = session.run(names, feeds)
        except Exception as error:
            raise ExportError(f"{self._path}: ONNX Runtime fails: {first_line(error)}") from error
        return dict(zip(names, values, strict=True))
