"""Engines for ONNX models behind a net's forward passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from caffecompat.errors import ExportError, NetError
from caffecompat.export.onnx_graph.rewriting.changes import Changes
from caffecompat.graph import Version
from caffecompat.inference.calibration import Agreement, calibration_batches
from caffecompat.inference.onnx_model.export import OnnxModel, onnx_model, reason_against
from caffecompat.inference.onnx_model.parts import Run, reason_against_parts
from caffecompat.inference.onnx_model.quantization import quantize, sums_in_32_bits
from caffecompat.inference.onnx_model.without_losses import (
    last_layers_without_operators,
    optimize_before,
)
from caffecompat.inference.timing import one_pass
from caffecompat.large_pages import large_pages
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, Optimization
from caffecompat.net.fx_program import Program

# Loads a model file.
Load: TypeAlias = Callable[[OnnxModel, InferenceOptions], Run]
# Runs a model on gapless tensors in single precision; the outputs belong to the caller.
TensorRun: TypeAlias = Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]
LoadBound: TypeAlias = Callable[[OnnxModel, InferenceOptions], TensorRun]


# The line about a precision that the processor does not have.
NO_HALVES = "{}: this processor has no such products; passes are in fp32"


class OnnxProgram:
    """See :class:`caffecompat.net.execution.inference.InferenceProgram`.

    Args:
        model: what ``run`` runs.
        own: the net's own program, for inputs of sizes that the model is not written for: some
            layers have operators for the sizes of the definition alone.
    """

    def __init__(self, model: OnnxModel, run: TensorRun, own: Program) -> None:
        self.feeds: list[Version] = model.feeds
        self.versions: list[Version] = model.versions
        self._model, self._run, self._own = model, run, own

    def __call__(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        # Programs repeat the terms of a sum, or use memory of another size, where inputs whose free
        # sizes must agree do not.
        if len(feeds) > 1 and not self._takes(feeds):
            return self._run_own(feeds)
        try:
            found = self._run(list(map(_gapless, feeds)))
        except ExportError as error:
            if not self._takes(feeds):
                return self._run_own(feeds)
            # The net then looks for the layer that does not fit the inputs.
            raise RuntimeError(str(error)) from error
        return dict(zip(self.versions, found, strict=True)), None

    def _takes(self, feeds: Sequence[torch.Tensor]) -> bool:
        return self._model.takes(feed.shape for feed in feeds)

    def _run_own(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        with torch.no_grad():
            return self._own(feeds)


def _gapless(feed: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor in single precision, in its own memory if they are so there."""
    if feed.dtype is torch.float32 and feed.is_contiguous() and not feed.requires_grad:
        return feed
    return feed.detach().float().contiguous()


@dataclass(frozen=True)
class OnnxEngine:
    """An engine for ONNX models.

    Attributes:
        name: of the engine.
        precisions: those that it has.
        load: loads a model, which takes arrays and gives them.
        changes: of the graph, for operators that the engine is faster at.
        parts: it runs a batch in parts.
        load_bound: loads a model whose inputs and outputs stay bound to it; None for engines
            without such models.
    """

    name: str
    precisions: Sequence[str]
    load: Load
    changes: Changes
    parts: bool = False
    load_bound: LoadBound | None = None


def optimize_onnx(net: Net, options: InferenceOptions, engine: OnnxEngine) -> Optimization:
    """A net in an engine for ONNX models.

    Raises:
        ExportError: ONNX cannot hold the net, or the engine cannot run it.
        NetError: the net is not on the CPU, or the engine does not have the precision.
        MissingExtra: the engine is not installed.
    """
    if net.device.type != "cpu":
        raise NetError(f"engine {engine.name} runs on the CPU; the net is on {net.device}")
    if options.precision not in engine.precisions:
        raise NetError(
            f"engine {engine.name} has no {options.precision} on the CPU; it has "
            f"{', '.join(engine.precisions)}"
        )
    if options.precision == "int8":
        # In other precisions torch runs such nets.
        last = last_layers_without_operators(net)
        if last and set(options.blobs) <= set(net.outputs):
            return optimize_before(net, last, options, partial(optimize_onnx, engine=engine))
    reason = reason_against(net, options.blobs, options.precision)
    if not reason and engine.parts:
        reason = reason_against_parts(net)
    if not reason:
        try:
            return _optimize(net, options, engine)
        except ExportError as error:
            reason = str(error)
    raise ExportError(f"engine {engine.name} cannot run the net: {reason}")


def optimize_onnx_in_fp32(net: Net, options: InferenceOptions, engine: OnnxEngine) -> Optimization:
    """:func:`optimize_onnx` on a processor without products in the precision that was chosen."""
    made = optimize_onnx(net, replace(options, precision="fp32"), engine)
    return replace(made, lines=(NO_HALVES.format(options.precision), *made.lines))


def _optimize(net: Net, options: InferenceOptions, engine: OnnxEngine) -> Optimization:
    int8 = options.precision == "int8"
    changes = engine.changes if options.operators and not int8 else None
    with onnx_model(net, int8, changes) as model:
        if engine.parts and not all(map(_has_free_rows, model.extents)):
            raise ExportError("some layer has operators for the batch of the definition alone")
        lines = [f"wrote {len(net.layers)} layers as an ONNX model", model.note]
        with large_pages(options.large_pages) as pages:
            if int8:
                run, more = _quantized(net, options, engine, model)
            else:
                run, more = _loaded(engine, model, options), []
            program = OnnxProgram(model, run, net.program())
            if options.large_pages:
                one_pass(net, program, options.shapes)
        if engine.parts:
            more.append(_parts_line(model))
        lines += [str(pages), *more]
        done = tuple(line for line in lines if line)
        return Optimization(engine.name, options.precision, done, program)


def _has_free_rows(extents: Sequence[object]) -> bool:
    return len(extents) > 0 and not isinstance(extents[0], int)


def _loaded(engine: OnnxEngine, model: OnnxModel, options: InferenceOptions) -> TensorRun:
    if options.bind and engine.load_bound is not None:
        return engine.load_bound(model, options)
    run = engine.load(model, options)

    def run_tensors(feeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return list(map(torch.from_numpy, run([feed.numpy() for feed in feeds])))

    return run_tensors


def _parts_line(model: OnnxModel) -> str:
    if model.single_rows:
        return "each thread computes one row of a batch after the other"
    return "each thread computes its part of a batch"


def _quantized(
    net: Net, options: InferenceOptions, engine: OnnxEngine, model: OnnxModel
) -> tuple[TensorRun, list[str]]:
    """The model in int8, and lines about it."""
    batches = calibration_batches(net, options)
    single = replace(options, precision="fp32")
    whole = _loaded(engine, model, single)
    small = replace(model, path=Path(model.path.parent, "int8.onnx"))
    quantize(model.path, small.path, batches)
    run = _loaded(engine, small, single)
    range_ = "" if sums_in_32_bits() else ", weights in 7 bits, for want of VNNI"
    lines = [
        f"int8: calibrated with {len(batches)} batches{range_}",
        f"int8: {_agreement(run, whole, model, batches)}",
    ]
    return run, lines


def _agreement(
    run: TensorRun,
    whole: TensorRun,
    model: OnnxModel,
    batches: Sequence[dict[str, np.ndarray]],
) -> Agreement:
    agreement = Agreement()
    for batch in batches:
        feeds = [torch.from_numpy(np.ascontiguousarray(batch[name])) for name in model.inputs]
        for found, wanted in zip(run(feeds), whole(feeds), strict=True):
            agreement.add(found.numpy(), wanted.numpy())
    return agreement
