"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from caffecompat.export.engines.onnxruntime import import_onnxruntime, open_session, run_session
from caffecompat.inference.onnx_model.export import OnnxModel
from caffecompat.inference.onnx_model.programs import NO_HALVES, Run, optimize_onnx
from caffecompat.inference.torch_graph.half import multiplies_halves
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, Optimization, inference_engines
from caffecompat.net.execution.precision import HALVES


@inference_engines.register("onnxruntime")
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """The net as an ONNX model in ONNX Runtime, with as many threads as torch has."""
    import_onnxruntime()
    half = HALVES.get(options.precision)
    if half is not None and not multiplies_halves(half, net.device):
        made = _optimize(net, replace(options, precision="fp32"))
        return replace(made, lines=(NO_HALVES.format(options.precision), *made.lines))
    return _optimize(net, options)


def _optimize(net: Net, options: InferenceOptions) -> Optimization:
    return optimize_onnx(net, options, "onnxruntime", ("fp32", "int8"), _load)


def _load(model: OnnxModel, precision: str) -> Run:
    session = open_session(str(model.path), model.path, torch.get_num_threads())

    def run(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        feeds = dict(zip(model.inputs, arrays, strict=True))
        return run_session(session, model.outputs, feeds, model.path)

    return run
