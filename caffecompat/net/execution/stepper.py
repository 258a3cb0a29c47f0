"""Runs a net layer by layer, for timing, partial passes and the search for the first NaN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from caffecompat.graph import Graph, Version
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution.local_pass import LocalPass


class LayeredNet(Protocol):
    """The part of :class:`caffecompat.Net` that is needed to run its layers.

    Attributes:
        position: 0-axis int64 tensor, the number of the running pass.
    """

    graph: Graph
    layers: list[BuiltLayer]
    position: torch.Tensor

    def read_source(self, built: BuiltLayer, index: int) -> tuple[torch.Tensor, ...]:
        """The tops of one source for pass ``index``."""
        ...


class Stepper:
    """Runs a net's layers one at a time over a dictionary of blobs.

    Each layer has its own autograd graph; :meth:`backward_layer` computes the gradients of bottoms
    and parameters from those of the tops, as Caffe's backward pass does. The results are those of
    the net's program, which is faster.

    Example::

        stepper = Stepper(net)
        stepper.begin(index=0)
        for i in range(len(net.layers)):
            stepper.forward_layer(i)
        for i in reversed(range(len(net.layers))):
            stepper.backward_layer(i)

    Args:
        wanted: for each bottom of each layer, whether it gets a gradient; otherwise all do but
            those with ``propagate_down: false``.

    Attributes:
        wanted: as given, or its default.
        values: blob values so far.
        gradients: blob gradients so far, filled by the backward steps.
        loss: sum of the weighted losses so far.
    """

    def __init__(self, net: LayeredNet, wanted: Sequence[Sequence[bool]] | None = None) -> None:
        self.net = net
        self.wanted = wanted or [[not b for b in built.blocked] for built in net.layers]
        self.values: dict[Version, torch.Tensor] = {}
        self.gradients: dict[Version, torch.Tensor] = {}
        self.loss = 0.0
        self._local: dict[int, LocalPass] = {}
        self._index = 0

    def begin(self, index: int = 0) -> None:
        """Starts pass number ``index``."""
        self.values = {}
        self.gradients = {}
        self.loss = 0.0
        self._local = {}
        self._index = index
        self.net.position.fill_(index)

    def forward_layer(self, i: int) -> tuple[torch.Tensor, ...]:
        """Runs layer ``i``; its bottoms must have been computed. Returns its tops."""
        built = self.net.layers[i]
        if built.source is not None:
            tops = self.net.read_source(built, self._index)
        elif built.module is None:
            tops = (self.values[built.bottoms[0]],) * len(built.tops)
        else:
            tops = self._run(i, built)
        self.values.update(zip(built.tops, tops, strict=False))
        for top, weight in zip(tops, built.loss_weights, strict=False):
            if weight:
                self.loss += weight * float(top.detach().sum())
        return tops

    def outputs(self) -> dict[str, torch.Tensor]:
        """The net's outputs by blob name, sorted, once all layers have run."""
        last = {top.blob: top for built in self.net.layers for top in built.tops}
        return {name: self.values[last[name]] for name in self.net.graph.outputs}

    def _run(self, i: int, built: BuiltLayer) -> tuple[torch.Tensor, ...]:
        assert built.module is not None
        bottoms = [self.values[bottom] for bottom in built.bottoms]
        self._local[i] = local = LocalPass(built.module, bottoms, self.wanted[i])
        return tuple(top.detach() for top in local.tops)

    def backward_layer(self, i: int) -> None:
        """Passes gradients through layer ``i``; parameter gradients add up in ``.grad``."""
        built = self.net.layers[i]
        if built.node.automatic:
            for top in built.tops:
                self._add(built.bottoms[0], self._top_gradient(built, top))
            return
        if i not in self._local:
            return
        gradients = self._local.pop(i).backward(self._top_gradients(built))
        for name, gradient in zip(built.bottoms, gradients, strict=True):
            self._add(name, gradient)

    def start_from_zeros(self, i: int) -> None:
        """Gives the tops of layer ``i`` that no gradient has reached one of zeros."""
        for top in self.net.layers[i].tops:
            self.gradients.setdefault(top, torch.zeros_like(self.values[top]))

    def _top_gradients(self, built: BuiltLayer) -> Sequence[torch.Tensor | None]:
        return [self._top_gradient(built, top) for top in built.tops]

    def _top_gradient(self, built: BuiltLayer, top: Version) -> torch.Tensor | None:
        gradient = self.gradients.get(top)
        position = built.tops.index(top)
        weight = built.loss_weights[position]
        # The readers' gradient takes the place of the weight, as in Caffe.
        if weight and not built.read[position]:
            own = torch.full_like(self.values[top], weight)
            gradient = own if gradient is None else gradient + own
        return gradient

    def _add(self, name: Version, gradient: torch.Tensor | None) -> None:
        if gradient is not None:
            known = self.gradients.get(name)
            self.gradients[name] = gradient if known is None else known + gradient
