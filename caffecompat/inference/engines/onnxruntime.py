"""ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from caffecompat.export.engines.onnxruntime import import_onnxruntime, open_session, run_session
from caffecompat.inference.onnx_model.export import OnnxModel
from caffecompat.inference.onnx_model.programs import Run, optimize_onnx
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, Optimization, inference_engines


@inference_engines.register("onnxruntime")
def optimize(net: Net, options: InferenceOptions) -> Optimization:
    """The net as an ONNX model in ONNX Runtime, with as many threads as torch has."""
    import_onnxruntime()
    return optimize_onnx(net, options, "onnxruntime", ("fp32", "int8"), _load)


def _load(model: OnnxModel, precision: str) -> Run:
    session = open_session(str(model.path), model.path, torch.get_num_threads())

    def run(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        feeds = dict(zip(model.inputs, arrays, strict=True))
        return run_session(session, model.outputs, feeds, model.path)

    return run
