"""Loss sharding: scales the losses of each rank so that they sum to the loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from caffecompat.layers import Layer, LossReduction
from caffecompat.net import Net, Result
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.solver.distributed.net_losses import Reductions, find_losses
from caffecompat.solver.distributed.process_group import ProcessGroup

_Factor = Callable[[Sequence[torch.Tensor]], torch.Tensor | float]


class LossSharding:
    """Scales the losses of a rank's net so that the sum over all ranks is the loss of one net.

    A loss that a layer divides by the batch size (or by the number of positions) is multiplied by
    this rank's fraction of the batch; one that is divided by the number of labels that are not
    ignored, by the rank's fraction of those labels; a sum stays as it is. Each layer declares
    which of these applies (``Layer.loss_reduction``).

    Args:
        net: the train net of this rank; it gets forward hooks.
        process_group: of the training.
        compiled: whether the net is compiled; the sum over the ranks then stays outside.
    """

    def __init__(self, net: Net, process_group: ProcessGroup, compiled: bool = False) -> None:
        self._net = net
        self._process_group = process_group
        self._compiled = compiled
        self._fraction = 1.0 if net.samples is None else net.samples.count / net.samples.total
        self._scaled: set[str] = set()
        if process_group.several:
            losses = find_losses(net)
            self._scaled = losses.blobs
            for built, reductions in losses.layers:
                self._shard(built, reductions)

    def _shard(self, built: BuiltLayer, reductions: Reductions) -> None:
        """Scales those losses of a layer that are means."""
        factors = {top: self._factor(reduction) for top, reduction in reductions.items()}
        needed = {top: factor for top, factor in factors.items() if factor is not None}
        if needed and built.module is not None:
            built.module.register_forward_hook(_scaling(needed))

    def _factor(self, reduction: LossReduction) -> _Factor | None:
        """The factor of a loss; None for a loss that is not scaled."""
        if reduction.kind == "sum":
            return None
        count = reduction.count
        if count is None:
            return lambda bottoms: self._fraction
        fraction = self._fraction_of_count
        if self._compiled:
            # Not as a decorator: it imports torch._dynamo, which takes as long as importing torch.
            fraction = torch.compiler.disable(fraction)
        return lambda bottoms: fraction(count(bottoms))

    def _fraction_of_count(self, own: torch.Tensor) -> torch.Tensor:
        # A single process has the fraction 1: own and the sum are equal, and both are clamped.
        return own.clamp(min=1) / self._process_group.sum(own).clamp(min=1)

    def outputs(self, result: Result) -> dict[str, torch.Tensor]:
        """The net's outputs for the whole batch, on the CPU; a collective operation of all ranks.

        Losses are summed, other scalars averaged, rows concatenated in the order of the ranks.
        """
        own = {name: value.detach().float().cpu() for name, value in result.outputs.items()}
        if not self._process_group.several:
            return own
        found = self._process_group.gather((self._fraction, own))
        return {name: self._merged(name, [(p, o[name]) for p, o in found]) for name in own}

    def _merged(self, name: str, parts: list[tuple[float, torch.Tensor]]) -> torch.Tensor:
        if name in self._scaled:
            return torch.stack([value for _, value in parts]).sum(0)
        if parts[0][1].dim() == 0:
            return torch.stack([fraction * value for fraction, value in parts]).sum(0)
        return torch.cat([value for _, value in parts])


def _scaling(factors: Mapping[int, _Factor]) -> Any:
    def scale(module: object, bottoms: Sequence[torch.Tensor], tops: Any) -> Any:
        if not isinstance(tops, tuple):
            return tops * factors[0](bottoms)
        return tuple(
            top * factors[i](bottoms) if i in factors else top for i, top in enumerate(tops)
        )

    return scale


def sharding_warnings(net: Net) -> list[str]:
    """One sentence for each layer whose results on several ranks may differ from those on one."""
    found = []
    for built, losses in find_losses(net).layers:
        layer = built.layer
        if layer is None:
            continue
        name = f"layer {built.name!r} ({built.type})"
        if layer.batch_coupling is not None:
            found.append(
                f"{name} {layer.batch_coupling}, of which each rank has a slice: its results are "
                "not those of one device" + _statistics_clause(layer)
            )
        if any(built.read[top] for top in losses):
            found.append(
                f"{name}: another layer reads its loss, of which each rank has a part; the sum of "
                "the ranks is right only where the reader multiplies it by a number and adds "
                "nothing"
            )
        if any(reduction.kind == "unknown" for reduction in losses.values()):
            found.append(
                f"{name} gives a loss and does not say how it depends on the size of the batch; it "
                "is taken for a mean over the batch"
            )
    return found


def _statistics_clause(layer: Layer) -> str:
    if all(spec.learned for spec in layer.specs):
        return ""
    return "; the statistics that are saved are those of rank 0"
