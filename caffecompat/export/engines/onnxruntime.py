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
    region_inputs,
    with_all_values,
)

ERRORS_ONLY = 4  # of its log levels: fatal


@engines.register("onnxruntime")
class OnnxRuntime(Engine):
    """A session on the CPU."""

    suffixes = (".onnx",)

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._path = path
        self._max_bytes = options.max_bytes
        # The model is as large as the file, and is not kept.
        model = read_onnx(path, options.max_bytes)
        self.inputs = input_shapes(model)
        self.regions = region_inputs(model)
        self.preprocessing = preprocessing_inside(model, path)
        self._outputs = [value.name for value in model.graph.output]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        return self._run(self._open(str(self._path)), self._outputs, inputs)

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        model, names = with_all_values(read_onnx(self._path, self._max_bytes))
        return self._run(self._open(model.SerializeToString()), names, inputs)

    def _open(self, model: str | bytes) -> Any:
        """A session for a file, or for the bytes of a model."""
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("ONNX Runtime", "onnx") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        # For one or two runs, memory counts more than speed: no copies of the weights in another
        # order, and no memory that is kept.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
        try:
            # Without its own second attempt, which prints a banner.
            return onnxruntime.InferenceSession(
                model,
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
