"""Each rank's part of the losses, so that the parts add up to the loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from caffecompat.layers import Layer, LossReduction
from caffecompat.net import Net, Result
from caffecompat.net.build import BuiltLayer
from caffecompat.solver.distributed.net_losses import Reductions, find_losses
from caffecompat.solver.distributed.process_group import ProcessGroup

_Factor = Callable[[Sequence[torch.Tensor]], torch.Tensor | float]


class LossSharding:
    """Makes the losses of a rank's net parts of the losses of all ranks together.

    A loss that a layer divides by the batch (or by all its positions) is multiplied by this rank's
    part of the batch; one that is divided by the labels that are not ignored, by the rank's part
    of those; a plain sum is a part already. Each layer says which of these its loss is
    (``Layer.loss_reduction``).

    Args:
        net: the train net of this rank, which is changed.
        ranks: of the training.
    """

    def __init__(self, net: Net, ranks: ProcessGroup) -> None:
        self._net = net
        self._ranks = ranks
        self._part = 1.0 if net.samples is None else net.samples.count / net.samples.total
        self._scaled: set[str] = set()
        if ranks.several:
            losses = find_losses(net)
            self._scaled = losses.blobs
            for built, reductions in losses.layers:
                self._shard(built, reductions)

    def _shard(self, built: BuiltLayer, reductions: Reductions) -> None:
        """Scales the losses of a layer that are means."""
        factors = {top: self._factor(reduction) for top, reduction in reductions.items()}
        needed = {top: factor for top, factor in factors.items() if factor is not None}
        if needed and built.module is not None:
            built.module.register_forward_hook(_scaling(needed))

    def _factor(self, reduction: LossReduction) -> _Factor | None:
        """What a loss is multiplied with; None for nothing."""
        if reduction.kind == "sum":
            return None
        count = reduction.count
        if count is None:
            return lambda bottoms: self._part
        return lambda bottoms: self._part_of_count(count(bottoms))

    @torch.compiler.disable
    def _part_of_count(self, own: torch.Tensor) -> torch.Tensor:
        # In this order each rank waits for no other when it is on its own.
        return own.clamp(min=1) / self._ranks.sum(own).clamp(min=1)

    def outputs(self, result: Result) -> dict[str, torch.Tensor]:
        """The net's outputs for the whole batch, on the CPU; all ranks must ask.

        Losses are added up, other single numbers averaged, rows put one after the other.
        """
        own = {name: value.detach().float().cpu() for name, value in result.outputs.items()}
        if not self._ranks.several:
            return own
        found = self._ranks.gather((self._part, own))
        return {name: self._joined(name, [(p, o[name]) for p, o in found]) for name in own}

    def _joined(self, name: str, parts: list[tuple[float, torch.Tensor]]) -> torch.Tensor:
        if name in self._scaled:
            return torch.stack([value for _, value in parts]).sum(0)
        if parts[0][1].dim() == 0:
            return torch.stack([part * value for part, value in parts]).sum(0)
        return torch.cat([value for _, value in parts])


def _scaling(factors: Mapping[int, _Factor]) -> Any:
    def scale(module: object, bottoms: Sequence[torch.Tensor], tops: Any) -> Any:
        if not isinstance(tops, tuple):
            return tops * factors[0](bottoms)
        return tuple(
            top * factors[i](bottoms) if i in factors else top for i, top in enumerate(tops)
        )

    return scale


def caveats(net: Net) -> list[str]:
    """Layers that mix the samples of a batch, for which ranks are not quite one net."""
    found = []
    for built, losses in find_losses(net).layers:
        layer = built.layer
        if layer is None:
            continue
        who = f"layer {built.name!r} ({built.type})"
        if layer.batch_coupling is not None:
            found.append(
                f"{who} {layer.batch_coupling}, of which each rank has a slice: its results are "
                "not those of one device" + _about_statistics(layer)
            )
        if any(built.read[top] for top in losses):
            found.append(
                f"{who}: another layer reads its loss, of which each rank has a part; the sum of "
                "the ranks is right only where the reader multiplies it by a number and adds "
                "nothing"
            )
        if any(reduction.kind == "unknown" for reduction in losses.values()):
            found.append(
                f"{who} gives a loss and does not say how it depends on the size of the batch; it "
                "is taken for a mean over the batch"
            )
    return found


def _about_statistics(layer: Layer) -> str:
    if all(spec.learned for spec in layer.specs):
        return ""
    return "; the statistics that are saved are those of rank 0"
