"""Nets whose last layers ONNX lacks, as losses: an engine runs what is before, torch the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch

from caffecompat.export.inputs.input_layers import with_inputs
from caffecompat.export.onnx_graph.build import unknown_layers
from caffecompat.export.outputs import keep_outputs, outputs_without
from caffecompat.graph import Version
from caffecompat.inference.calibration import calibration_batches
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution.inference import InferenceOptions, InferenceProgram, Optimization
from caffecompat.net.fx_program import Program

Optimize: TypeAlias = Callable[[Net, InferenceOptions], Optimization]


def last_layers_without_operators(net: Net) -> list[BuiltLayer]:
    """The layers behind a net's products that ONNX lacks; empty if it lacks others, or none."""
    unknown = unknown_layers(net)
    ends = _ends(net, unknown) if unknown else []
    tail = _behind(net, set(ends) | set(net.program().feeds)) if ends else []
    holds_parameters = any(built.layer is not None and built.layer.specs for built in tail)
    return [] if holds_parameters else unknown


def optimize_before(
    net: Net, unknown: Sequence[BuiltLayer], options: InferenceOptions, optimize: Optimize
) -> Optimization:
    """A net whose first layers run in an engine, and ``unknown`` and what follows in torch.

    Args:
        unknown: see :func:`last_layers_without_operators`.
        optimize: for a net without them.

    Raises:
        CaffeError: as ``optimize``.
    """
    ends = _ends(net, unknown)
    front = keep_outputs(with_inputs(net), [end.blob for end in ends]).net()
    inputs = {top.blob for top in front.program().feeds}
    batches = options.calibration
    if isinstance(batches, int):
        # The data layers, which the first layers are without.
        batches = calibration_batches(net, options)
    shapes = {name: shape for name, shape in (options.shapes or {}).items() if name in inputs}
    made = optimize(front, replace(options, calibration=batches, blobs=(), shapes=shapes or None))
    named = ", ".join(f"{built.name!r} ({built.type})" for built in unknown)
    line = f"torch runs {named} in fp32, which ONNX has no operators for"
    assert made.program is not None
    return replace(
        made, lines=(*made.lines, line), program=_TwoParts(net, made.program, dict.fromkeys(ends))
    )


class _TwoParts:
    """See :class:`caffecompat.net.execution.inference.InferenceProgram`.

    Args:
        front: the program of the layers before ``ends``.
        ends: the values that it gives, among others.
    """

    def __init__(self, net: Net, front: InferenceProgram, ends: dict[Version, None]) -> None:
        own = net.program()
        self.feeds, self.versions = list(own.feeds), list(own.versions)
        self._front = front
        self._places = [[feed.blob for feed in self.feeds].index(f.blob) for f in front.feeds]
        self._ends = {end.blob: end for end in ends}
        given = dict.fromkeys([*self.feeds, *ends])
        self._tail = Program(_behind(net, set(given)), self.versions, list(given))

    def __call__(
        self, feeds: Sequence[torch.Tensor]
    ) -> tuple[dict[Version, torch.Tensor], torch.Tensor | None]:
        found, _ = self._front([feeds[place] for place in self._places])
        values = dict(zip(self.feeds, feeds, strict=True))
        values.update({self._ends[v.blob]: x for v, x in found.items() if v.blob in self._ends})
        with torch.no_grad():
            return self._tail([values[feed] for feed in self._tail.feeds])


def _ends(net: Net, unknown: Sequence[BuiltLayer]) -> list[Version]:
    """The last values that layers before the unknown ones compute."""
    names = outputs_without(net.graph, {built.name for built in unknown})
    last = {top.blob: top for built in net.layers for top in built.tops}
    return [last[name] for name in names]


def _behind(net: Net, known: set[Version]) -> list[BuiltLayer]:
    """The layers that compute the net's outputs and losses from known values, in order."""
    makers = {top: built for built in net.layers for top in built.tops}
    losses = [
        top
        for built in net.layers
        for top, weight in zip(built.tops, built.loss_weights, strict=False)
        if weight
    ]
    needed: set[int] = set()
    pending = [*net.program().versions, *losses]
    while pending:
        value = pending.pop()
        if value not in known and id(makers[value]) not in needed:
            needed.add(id(makers[value]))
            pending += makers[value].bottoms
    return [built for built in net.layers if id(built) in needed]
