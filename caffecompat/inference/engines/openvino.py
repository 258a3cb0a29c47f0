"""OpenVINO."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from caffecompat.errors import ExportError, MissingExtra, first_line
from caffecompat.inference.onnx_model.export import OnnxModel
from caffecompat.inference.onnx_model.programs import NO_HALVES, Run, optimize_onnx
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, Optimization, inference_engines
from caffecompat.net.execution.precision import HALVES

# How many input sizes stay compiled; each has a copy of the weights.
_MOST_SIZES = 4
_CAPABILITIES = "OPTIMIZATION_CAPABILITIES"
_KINDS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


@inference_engines.register("openvino")
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """The net as an ONNX model in OpenVINO, compiled for each input size when it first comes."""
    core = import_openvino().Core()
    precision = options.precision
    if precision in HALVES and precision.upper() not in core.get_property("CPU", _CAPABILITIES):
        # OpenVINO would do so without a word.
        made = _optimize(net, replace(options, precision="fp32"))
        return replace(made, lines=(NO_HALVES.format(precision), *made.lines))
    return _optimize(net, options)


def _optimize(net: Net, options: InferenceOptions) -> Optimization:
    return optimize_onnx(net, options, "openvino", (*_KINDS, "int8"), load_openvino)


def import_openvino() -> Any:
    """The module openvino.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("OpenVINO", "openvino") from error
    return openvino


def load_openvino(model: OnnxModel, precision: str) -> Run:
    """Loads a model, which is compiled for each shape of the inputs.

    Raises:
        ExportError: OpenVINO cannot read it.
    """
    compiled = _Compiled(model, precision)
    return compiled.run


class _Compiled:
    def __init__(self, model: OnnxModel, precision: str) -> None:
        self._core = import_openvino().Core()
        self._inputs, self._outputs = model.inputs, model.outputs
        self._settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _KINDS[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._requests: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()
        try:
            # From memory: it would read weights from the file when they are needed.
            self._model = self._core.read_model(model.path.read_bytes())
        except Exception as error:  # RuntimeError and others
            raise ExportError(f"OpenVINO cannot read the net: {first_line(error)}") from error

    def run(self, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        try:
            request = self._request(tuple(array.shape for array in arrays))
            inputs = dict(zip(self._inputs, arrays, strict=True))
            found = request.infer(inputs, share_inputs=True, share_outputs=True)
            # The request overwrites its outputs in the next pass.
            return [np.array(found[name]) for name in self._outputs]
        except Exception as error:
            raise ExportError(f"OpenVINO fails: {first_line(error)}") from error

    def _request(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        request = self._requests.get(shapes)
        if request is None:
            self._model.reshape(dict(zip(self._inputs, map(list, shapes), strict=True)))
            compiled = self._core.compile_model(self._model, "CPU", self._settings)
            request = self._requests[shapes] = compiled.create_infer_request()
            if len(self._requests) > _MOST_SIZES:
                self._requests.popitem(last=False)
        self._requests.move_to_end(shapes)
        return request
