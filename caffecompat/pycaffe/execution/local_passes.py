"""The autograd graphs of the layers of a net, recorded in a forward pass or made for a backward."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from caffecompat.errors import CaffeError
from caffecompat.net.execution.local_pass import LocalPass
from caffecompat.net.module import LayerModule
from caffecompat.pycaffe.execution.layer_step import Origin, Step


class LocalPasses:
    """Runs layers forward with or without graphs, and backward.

    A layer that ran without a graph runs again for its backward pass: on what its bottoms hold, or,
    where an in-place layer has overwritten them, on values that are computed again.

    Args:
        steps: all layers of the net.
        wanted: for each layer, which of its bottoms get a gradient.

    Attributes:
        recording: whether all layers record.
    """

    def __init__(
        self, steps: Sequence[Step], wanted: Sequence[Sequence[bool]], recording: bool
    ) -> None:
        self.recording = recording
        self._steps = steps
        self._wanted = wanted
        self._graphs: dict[int, LocalPass] = {}
        self._kept: dict[int, list[torch.Tensor]] = {}
        self._without_graph: set[int] = set()
        # Their bottoms cannot be computed again by a module.
        self._keeping = {i for i, step in enumerate(steps) if self._must_keep(step)}

    def _must_keep(self, step: Step) -> bool:
        found = [self._steps[o.layer].built for o in step.origins if o is not None]
        return step.overwrites and any(b.module is None or b.layer is None for b in found)

    def keeps_bottoms(self, i: int) -> bool:
        """Whether the bottoms of layer ``i`` must be kept, if it runs without a graph."""
        return i in self._keeping

    def run_without_graphs(self, start: int, end: int) -> None:
        """Says that layers ``start`` to ``end`` run now; those with graphs call forward."""
        for i in [i for i in self._graphs if start <= i <= end]:
            del self._graphs[i]
        self._without_graph.update(range(start, end + 1))

    def forward(
        self, i: int, module: LayerModule, needed: bool
    ) -> Sequence[torch.Tensor] | torch.Tensor | None:
        """The tops of layer ``i``.

        Args:
            needed: whether the layer takes part in backward passes.
        """
        step = self._steps[i]
        bottoms = [m.kept() if step.overwrites else m.tensor() for m in step.bottoms]
        try:
            if needed and (self.recording or step.records):
                self._graphs[i] = graph = LocalPass(module, bottoms, self._wanted[i])
                self._without_graph.discard(i)
                return [top.detach() for top in graph.tops]
            self._without_graph.add(i)
            if i in self._keeping:
                self._kept[i] = bottoms
            with torch.no_grad():
                tops: Sequence[torch.Tensor] | torch.Tensor | None = module(*bottoms)
        except CaffeError:
            raise
        except RuntimeError as error:
            raise step.failure(bottoms, error) from error
        return tops

    def forget_after(self, last: int) -> None:
        """Forgets the layers behind ``last``, whose bottoms may have changed."""
        for i in range(last + 1, len(self._steps)):
            self._graphs.pop(i, None)
            self._kept.pop(i, None)
            self._without_graph.discard(i)

    def backward(
        self, i: int, module: LayerModule, diffs: Sequence[torch.Tensor], keep: bool
    ) -> list[torch.Tensor | None]:
        """The gradients of the bottoms of layer ``i`` from those of its tops.

        Args:
            keep: whether there may be another backward pass before the next forward pass.
        """
        if self._steps[i].passes_no_gradient:
            return [None] * len(self._wanted[i])
        graph = self._graphs.get(i) if keep else self._graphs.pop(i, None)
        if graph is not None:
            return graph.backward(diffs, keep)
        step, bottoms = self._steps[i], self._bottoms(i)
        try:
            return LocalPass(module, bottoms, self._wanted[i]).backward(diffs)
        except CaffeError:
            raise
        except RuntimeError as error:
            raise step.failure(bottoms, error) from error

    def _bottoms(self, i: int) -> list[torch.Tensor]:
        """The values that layer ``i`` had in its last forward pass, or what its bottoms hold."""
        if i in self._kept:
            return self._kept[i]
        step = self._steps[i]
        return [
            memory.tensor() if origin is None or i not in self._without_graph else self._top(origin)
            for memory, origin in zip(step.bottoms, step.origins, strict=True)
        ]

    def _top(self, origin: Origin) -> torch.Tensor:
        """A value that an in-place layer has overwritten."""
        graph = self._graphs.get(origin.layer)
        if graph is not None:
            return graph.tops[origin.top].detach()
        module = self._steps[origin.layer].built.module
        if module is None or origin.layer not in self._without_graph:
            return self._steps[origin.layer].tops[origin.top].tensor()
        with torch.no_grad():
            tops = module(*self._bottoms(origin.layer))
        top: torch.Tensor = tops if isinstance(tops, torch.Tensor) else tops[origin.top]
        return top
