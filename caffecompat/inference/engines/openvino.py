"""OpenVINO."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch

from caffecompat.errors import ExportError, MissingExtra, first_line
from caffecompat.inference.forked import kept_in_forks, openvino_process
from caffecompat.inference.onnx_model.export import OnnxModel
from caffecompat.inference.onnx_model.parts import PartsRun, Run
from caffecompat.inference.onnx_model.programs import NO_HALVES, OnnxEngine, optimize_onnx
from caffecompat.inference.signal_stack import kept_signal_stack
from caffecompat.inference.torch_graph.half import advice_against
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
    return _optimize(net, options, _WHOLE)


@inference_engines.register("openvino-parts")
def optimize_parts(net: Net, options: InferenceOptions) -> Optimization:
    """The same with parts of a batch, each of which one thread computes."""
    return _optimize(net, options, _PARTS)


def _optimize(net: Net, options: InferenceOptions, engine: OnnxEngine) -> Optimization:
    openvino_process.check()
    with kept_signal_stack():
        core = import_openvino().Core()
        precision = options.precision
        if precision in HALVES and precision.upper() not in core.get_property("CPU", _CAPABILITIES):
            # OpenVINO would do so without a word.
            made = optimize_onnx(net, replace(options, precision="fp32"), engine)
            return replace(made, lines=(NO_HALVES.format(precision), *made.lines))
        made = optimize_onnx(net, options, engine)
        advice = advice_against(precision)
        return replace(made, lines=(f"{precision}: {advice}", *made.lines)) if advice else made


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


def _load(model: OnnxModel, options: InferenceOptions) -> Run:
    return partial(_Compiled(model, options.precision, streams=1).run, 0)


def _load_parts(model: OnnxModel, options: InferenceOptions) -> Run:
    threads = torch.get_num_threads()
    compiled = _Compiled(model, options.precision, threads)
    workers = [partial(compiled.run, stream) for stream in range(threads)]
    return PartsRun(workers, model.single_rows)


class _Compiled:
    """A model that is compiled for each shape of the inputs.

    Args:
        streams: how many passes run at once, which share the threads; :meth:`run` says which.

    Raises:
        ExportError: OpenVINO cannot read the model.
    """

    def __init__(self, model: OnnxModel, precision: str, streams: int) -> None:
        openvino = import_openvino()
        # The first such call fills a table, and two at once may wait for each other forever: one
        # fills it and waits for Python's lock, which the other has while it waits for the table.
        openvino.Type.f32.to_dtype()
        self._core = openvino.Core()
        self._inputs, self._outputs = model.inputs, model.outputs
        self._settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _KINDS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": streams,
        }
        self._streams = streams
        kept_in_forks.add(self)
        self._requests: OrderedDict[tuple[tuple[int, ...], ...], list[_Request]] = OrderedDict()
        self._lock = Lock()
        try:
            # From memory: it would read weights from the file when they are needed.
            self._model = self._core.read_model(model.path.read_bytes())
        except Exception as error:  # RuntimeError and others
            raise ExportError(f"OpenVINO cannot read the net: {first_line(error)}") from error

    def run(self, stream: int, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        openvino_process.check()
        try:
            with self._lock:
                request = self._ready(tuple(array.shape for array in arrays))[stream]
            return request.run(dict(zip(self._inputs, arrays, strict=True)), self._outputs)
        except Exception as error:
            raise ExportError(f"OpenVINO fails: {first_line(error)}") from error

    def _ready(self, shapes: tuple[tuple[int, ...], ...]) -> list[_Request]:
        """A request of each stream, for inputs of these shapes."""
        requests = self._requests.get(shapes)
        if requests is None:
            self._model.reshape(dict(zip(self._inputs, map(list, shapes), strict=True)))
            with kept_signal_stack():
                compiled = self._core.compile_model(self._model, "CPU", self._settings)
                requests = [_Request(compiled) for _ in range(self._streams)]
            self._requests[shapes] = requests
            if len(self._requests) > _MOST_SIZES:
                self._requests.popitem(last=False)
        self._requests.move_to_end(shapes)
        return requests


class _Request:
    """A request of a compiled model, which runs one pass at a time."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = Lock()

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        with self._lock:
            found = self._request.infer(inputs, share_inputs=True, share_outputs=True)
            # The request overwrites its outputs in the next pass.
            return [np.array(found[name]) for name in outputs]


_WHOLE = OnnxEngine("openvino", (*_KINDS, "int8"), _load)
_PARTS = OnnxEngine("openvino-parts", tuple(_KINDS), _load_parts, parts=True)
