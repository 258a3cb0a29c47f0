"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import ExportError, first_line, needing_extra
from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, check_inputs, engines
from caffecompat.export.onnx_file import (
    input_shapes,
    preprocessing_inside,
    read_onnx,
    region_inputs,
    with_all_values,
)

FATAL_ONLY = 4  # the highest of its log levels


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
        return self._run(open_session(str(self._path), self._path), self._outputs, inputs)

    def values(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        model, names = with_all_values(read_onnx(self._path, self._max_bytes))
        return self._run(open_session(model.SerializeToString(), self._path), names, inputs)

    def _run(self, session: Any, names: list[str], inputs: Mapping[str, np.ndarray]) -> Arrays:
        check_inputs(self, inputs, self._path)
        feeds = {name: inputs[name] for name in self.inputs}
        return dict(zip(names, run_session(session, names, feeds, self._path), strict=True))


def open_session(model: str | bytes, path: Path, threads: int = 0, wait: int | None = None) -> Any:
    """A session for a file, or for the bytes of a model.

    Args:
        path: the user's file, for messages.
        threads: tune the session for many runs with this many threads. With 0 it is for one or two
            runs, in which memory counts more than speed.
        wait: for how many microseconds threads without work keep the processor; None for ONNX
            Runtime's own, which are a million pauses of the processor, 15 to 55 milliseconds.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ExportError: it cannot load the model.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    if threads:
        options.intra_op_num_threads = threads
        if wait is not None:
            # Versions that do not know it ignore it.
            options.add_session_config_entry("session.intra_op.spin_duration_us", str(wait))
    else:
        # No copies of the weights in another order, and no memory that is kept.
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.enable_cpu_mem_arena = False
    try:
        # Without its own second attempt, which prints a banner.
        return runtime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,
        )
    except Exception as error:  # its exceptions derive from RuntimeError and from Exception
        raise ExportError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}") from error


def run_session(
    session: Any, names: list[str], feeds: dict[str, np.ndarray], path: Path
) -> list[np.ndarray]:
    """The values called ``names``.

    Raises:
        ExportError: ONNX Runtime fails.
    """
    try:
        values: list[np.ndarray] = session.run(names, feeds)
    except Exception as error:
        raise failed(path, error) from error
    return values


def failed(path: Path, error: Exception) -> ExportError:
    """The error of a pass that ONNX Runtime ends with ``error``."""
    return ExportError(f"{path}: ONNX Runtime fails: {first_line(error)}")


def import_onnxruntime() -> Any:
    """The module onnxruntime.

    Raises:
        MissingExtra: it is not installed.
    """
    with needing_extra("ONNX Runtime", "onnx"):
        import onnxruntime
    return onnxruntime
