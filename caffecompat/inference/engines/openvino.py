"""OpenVINO."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch

from caffecompat.errors import ExportError, MissingExtra, first_line
from caffecompat.export.onnx_graph.rewriting.changes import FOR_OPENVINO
from caffecompat.inference.forked import kept_in_forks, openvino_process
from caffecompat.inference.onnx_model.bound_memory import BoundInputs, BoundOutputs
from caffecompat.inference.onnx_model.export import OnnxModel
from caffecompat.inference.onnx_model.parts import PartsRun, Run
from caffecompat.inference.onnx_model.programs import (
    OnnxEngine,
    TensorRun,
    optimize_onnx,
    optimize_onnx_in_fp32,
)
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
            return optimize_onnx_in_fp32(net, options, engine)
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
    return _Compiled(model, options.precision, streams=1)


def _load_bound(model: OnnxModel, options: InferenceOptions) -> TensorRun:
    return _Compiled(model, options.precision, streams=1).run_bound


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
        self._onnx = model
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
            known = set().union(*(port.get_names() for port in self._model.inputs))
        except Exception as error:  # RuntimeError and others
            raise ExportError(f"OpenVINO cannot read the net: {first_line(error)}") from error
        # It leaves out inputs that nothing reads.
        self._read = [index for index, name in enumerate(model.inputs) if name in known]

    def __call__(self, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        return self.run(0, arrays)

    def run(self, stream: int, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        openvino_process.check()
        try:
            with self._lock:
                request = self._ready(tuple(array.shape for array in arrays))[stream]
            return request.run([arrays[index] for index in self._read])
        except Exception as error:
            raise ExportError(f"OpenVINO fails: {first_line(error)}") from error

    def run_bound(self, feeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One pass over tensors in the order of the inputs; its outputs are the caller's.

        Calls of OpenVINO that are not needed again are left out, see :class:`_Request`.
        """
        openvino_process.check()
        try:
            with self._lock:
                (request,) = self._ready(tuple([feed.shape for feed in feeds]))
            return request.run_bound([feeds[index] for index in self._read])
        except Exception as error:
            raise ExportError(f"OpenVINO fails: {first_line(error)}") from error

    def _ready(self, shapes: tuple[tuple[int, ...], ...]) -> list[_Request]:
        """A request of each stream, for inputs of these shapes."""
        requests = self._requests.get(shapes)
        if requests is None:
            if not self._onnx.takes(shapes):
                raise ExportError("the model is not written for inputs of these sizes")
            inputs = [self._onnx.inputs[index] for index in self._read]
            sizes = [list(shapes[index]) for index in self._read]
            self._model.reshape(dict(zip(inputs, sizes, strict=True)))
            with kept_signal_stack():
                compiled = self._core.compile_model(self._model, "CPU", self._settings)
                requests = [
                    _Request(compiled, inputs, self._onnx.outputs, self._onnx.bindable)
                    for _ in range(self._streams)
                ]
            self._requests[shapes] = requests
            if len(self._requests) > _MOST_SIZES:
                self._requests.popitem(last=False)
        self._requests.move_to_end(shapes)
        return requests


class _Request:
    """A request of a compiled model, which runs one pass at a time.

    For :meth:`run_bound` the memory of its inputs and outputs stays bound to it: OpenVINO's call
    for a pass would make tensors and dictionaries of them each time, which takes a tenth of a
    millisecond after a pass has filled the caches.

    Args:
        compiled: the model.
        inputs, outputs: their names, in the order of what a pass takes and gives.
        bindable: see :class:`OnnxModel`.
    """

    def __init__(
        self, compiled: Any, inputs: Sequence[str], outputs: Sequence[str], bindable: bool
    ) -> None:
        self._inputs, self._outputs = inputs, outputs
        self._request = compiled.create_infer_request()
        self._lock = Lock()
        self._bound_inputs = BoundInputs(self._bind, len(inputs))
        self._bound_outputs: BoundOutputs | None = None
        self._binds = bindable and all(_is_plain(compiled.output(name)) for name in outputs)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            inputs = dict(zip(self._inputs, arrays, strict=True))
            found = self._request.infer(inputs, share_inputs=True, share_outputs=True)
            # The request overwrites its outputs in the next pass.
            return [np.array(found[name]) for name in self._outputs]

    def run_bound(self, feeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if not self._binds:
            return [torch.from_numpy(array) for array in self.run([one.numpy() for one in feeds])]
        with self._lock:
            outputs = self._bound_outputs or self._bind_outputs()
            self._bound_inputs.bind(feeds)
            try:
                self._request.start_async()
            finally:
                # Also after Ctrl-C: a request that runs takes no other pass.
                self._request.wait()
            return outputs.copies()

    def _bind(self, index: int, feed: torch.Tensor) -> None:
        self._request.set_tensor(self._inputs[index], _shared(feed))

    def _bind_outputs(self) -> BoundOutputs:
        outputs = BoundOutputs([self._request.get_tensor(name).shape for name in self._outputs])
        for name, tensor in zip(self._outputs, outputs.tensors, strict=True):
            self._request.set_tensor(name, _shared(tensor))
        self._bound_outputs = outputs
        return outputs


def _is_plain(port: Any) -> bool:
    """Whether the values of a port have one shape and are in single precision."""
    return port.partial_shape.is_static and port.element_type.to_dtype() == np.float32


def _shared(tensor: torch.Tensor) -> Any:
    """OpenVINO's tensor in the memory of a tensor, which it keeps."""
    return import_openvino().Tensor(tensor.numpy(), shared_memory=True)


_WHOLE = OnnxEngine("openvino", (*_KINDS, "int8"), _load, FOR_OPENVINO, load_bound=_load_bound)
_PARTS = OnnxEngine("openvino-parts", tuple(_KINDS), _load_parts, FOR_OPENVINO, parts=True)
