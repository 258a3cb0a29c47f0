"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from caffecompat.export.engines.onnxruntime import import_onnxruntime, open_session, run_session
from caffecompat.export.onnx_graph.rewriting.changes import FOR_ONNX_RUNTIME
from caffecompat.inference.forked import kept_in_forks
from caffecompat.inference.onnx_model.export import OnnxModel
from caffecompat.inference.onnx_model.parts import PartsRun, Run
from caffecompat.inference.onnx_model.programs import (
    OnnxEngine,
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
    wait = _WAIT if options.short_waits else None
    session = open_session(str(model.path), model.path, torch.get_num_threads(), wait)
    kept_in_forks.add(session)
    return partial(_run, session, model)


def _load_parts(model: OnnxModel, options: InferenceOptions) -> Run:
    # A session may run in several threads at once.
    worker = partial(_run, open_session(str(model.path), model.path, threads=1), model)
    return PartsRun([worker] * torch.get_num_threads(), model.single_rows)


def _run(session: Any, model: OnnxModel, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
    feeds = dict(zip(model.inputs, arrays, strict=True))
    return run_session(session, model.outputs, feeds, model.path)


_WHOLE = OnnxEngine("onnxruntime", ("fp32", "int8"), _load, FOR_ONNX_RUNTIME)
_PARTS = OnnxEngine("onnxruntime-parts", ("fp32",), _load_parts, FOR_ONNX_RUNTIME, parts=True)
