"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch

from caffecompat.export.engines.onnxruntime import (
    failed,
    import_onnxruntime,
    open_session,
    run_session,
)
from caffecompat.export.onnx_graph.rewriting.changes import FOR_ONNX_RUNTIME
from caffecompat.inference.forked import kept_in_forks
from caffecompat.inference.onnx_model.bound_memory import BoundInputs, BoundOutputs
from caffecompat.inference.onnx_model.export import OnnxModel
from caffecompat.inference.onnx_model.parts import PartsRun, Run
from caffecompat.inference.onnx_model.programs import (
    OnnxEngine,
    TensorRun,
    optimize_onnx,
    optimize_onnx_in_fp32,
)
from caffecompat.inference.torch_graph.half import multiplies_halves
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, Optimization, inference_engines
from caffecompat.net.execution.precision import HALVES

# Microseconds for which threads wait for more work without sleeping: longer than between the
# layers of a pass, and between passes that follow each other.
_WAIT = 1000


@inference_engines.register("onnxruntime")
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """The net as an ONNX model in ONNX Runtime, with as many threads as torch has."""
    return _optimize(net, options, _WHOLE)


@inference_engines.register("onnxruntime-parts")
def optimize_parts(net: Net, options: InferenceOptions) -> Optimization:
    """The same with parts of a batch, each of which one thread computes."""
    return _optimize(net, options, _PARTS)


def _optimize(net: Net, options: InferenceOptions, engine: OnnxEngine) -> Optimization:
    import_onnxruntime()
    half = HALVES.get(options.precision)
    if half is not None and not multiplies_halves(half, net.device):
        return optimize_onnx_in_fp32(net, options, engine)
    return optimize_onnx(net, options, engine)


def _load(model: OnnxModel, options: InferenceOptions) -> Run:
    return partial(_run, _open(model, options), model)


def _open(model: OnnxModel, options: InferenceOptions) -> Any:
    wait = _WAIT if options.short_waits else None
    session = open_session(str(model.path), model.path, torch.get_num_threads(), wait)
    kept_in_forks.add(session)
    return session


def _load_bound(model: OnnxModel, options: InferenceOptions) -> TensorRun:
    return _Bound(model, options)


class _Bound:
    """A session whose inputs and outputs stay bound to it while their sizes stay.

    ONNX Runtime's call for a pass would make values of the inputs and arrays of the outputs each
    time.
    """

    def __init__(self, model: OnnxModel, options: InferenceOptions) -> None:
        self._model = model
        self._session = _open(model, options)
        self._lock = Lock()
        self._shapes: tuple[torch.Size, ...] | None = None

    def __call__(self, feeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with self._lock:
            shapes = tuple([feed.shape for feed in feeds])
            if shapes != self._shapes:
                return self._first_pass(feeds, shapes)
            self._inputs.bind(feeds)
            try:
                self._session.run_with_iobinding(self._binding)
            except Exception as error:
                raise failed(self._model.path, error) from error
            return self._outputs.copies()

    def _first_pass(
        self, feeds: Sequence[torch.Tensor], shapes: tuple[torch.Size, ...]
    ) -> list[torch.Tensor]:
        """A pass over inputs of other sizes, which says what sizes the outputs have."""
        self._shapes = None
        arrays = _run(self._session, self._model, [feed.numpy() for feed in feeds])
        found = list(map(torch.from_numpy, arrays))
        if self._model.bindable and all(map(_is_bindable, [*feeds, *found])):
            self._binding = self._session.io_binding()
            self._inputs = BoundInputs(self._bind_input, len(feeds))
            self._outputs = BoundOutputs([array.shape for array in arrays])
            for name, tensor in zip(self._model.outputs, self._outputs.tensors, strict=True):
                self._binding.bind_output(name, **_memory(tensor))
            self._shapes = shapes
        return found

    def _bind_input(self, index: int, feed: torch.Tensor) -> None:
        self._binding.bind_input(self._model.inputs[index], **_memory(feed))


def _is_bindable(tensor: torch.Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.numel() > 0


def _memory(tensor: torch.Tensor) -> dict[str, Any]:
    """A tensor on the CPU as the arguments of a binding."""
    return {
        "device_type": "cpu",
        "device_id": 0,
        "element_type": np.float32,
        "shape": tuple(tensor.shape),
        "buffer_ptr": tensor.data_ptr(),
    }


def _load_parts(model: OnnxModel, options: InferenceOptions) -> Run:
    # A session may run in several threads at once.
    worker = partial(_run, open_session(str(model.path), model.path, threads=1), model)
    return PartsRun([worker] * torch.get_num_threads(), model.single_rows)


def _run(session: Any, model: OnnxModel, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
    feeds = dict(zip(model.inputs, arrays, strict=True))
    return run_session(session, model.outputs, feeds, model.path)


_WHOLE = OnnxEngine(
    "onnxruntime", ("fp32", "int8"), _load, FOR_ONNX_RUNTIME, load_bound=_load_bound
)
_PARTS = OnnxEngine("onnxruntime-parts", ("fp32",), _load_parts, FOR_ONNX_RUNTIME, parts=True)
