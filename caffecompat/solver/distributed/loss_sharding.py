"""Each rank's part of the losses, so that the parts add up to the loss of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from caffecompat.graph import Version
from caffecompat.layers._loss import Normalization
from caffecompat.net import Net, Result
from caffecompat.net.build import BuiltLayer
from caffecompat.solver.distributed.process_group import ProcessGroup

_Factor = Callable[[Sequence[torch.Tensor]], torch.Tensor | float]


class LossSharding:
    """Makes the losses of a rank's net parts of the losses of all ranks together.

    A loss that a layer divides by the batch (or by all its positions) is multiplied with this
    rank's share of the batch; one that is divided by the labels that are not ignored, with the
    rank's share of those; a plain sum is a part already.

    Args:
        net: the train net of this rank, which is changed.
        ranks: of the training.
    """

    def __init__(self, net: Net, ranks: ProcessGroup) -> None:
        self._net = net
        self._ranks = ranks
        self._part = 1.0 if net.samples is None else net.samples.count / net.samples.total
        self._scaled: set[str] = set()
        for built in net.layers if ranks.several else ():
            factor = self._factor(built)
            if factor is not None and built.module is not None:
                built.module.register_forward_hook(_scaling(factor))
            if factor is not None or _is_sum(built) or self._reads_part(built):
                self._scaled.update(top.blob for top in _parts(built))

    def _reads_part(self, built: BuiltLayer) -> bool:
        """Whether a layer works on single numbers of which some are this rank's parts."""
        single = all(shape == () for shape in built.shapes)
        return single and any(bottom.blob in self._scaled for bottom in built.bottoms)

    def _factor(self, built: BuiltLayer) -> _Factor | None:
        """What a layer's first top is multiplied with; None for nothing."""
        if built.layer is None or not (built.layer.is_loss or _is_mean(built) or _is_own(built)):
            return None
        normalization = getattr(built.layer, "normalization", None)
        if not isinstance(normalization, Normalization):
            return lambda bottoms: self._part
        if normalization.mode == "NONE":
            return None
        if normalization.mode != "VALID" or normalization.ignore is None:
            return lambda bottoms: self._part
        ignored = normalization.ignore
        return lambda bottoms: self._part_of_valid(bottoms[1], ignored)

    @torch.compiler.disable
    def _part_of_valid(self, labels: torch.Tensor, ignored: int) -> torch.Tensor:
        own = (labels.detach().trunc() != ignored).sum()
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


def _scaling(factor: _Factor) -> Any:
    def scale(module: object, bottoms: Sequence[torch.Tensor], tops: Any) -> Any:
        if isinstance(tops, tuple):
            return (tops[0] * factor(bottoms), *tops[1:])
        return tops * factor(bottoms)

    return scale


def _parts(built: BuiltLayer) -> Sequence[Version]:
    """The tops that are parts: all of a split's or a reader's, the first of a loss."""
    several = built.node.automatic or (built.layer is not None and not built.layer.is_loss)
    return built.tops if several else built.tops[:1]


def _is_mean(built: BuiltLayer) -> bool:
    """A Reduction of everything to its mean; other reductions keep the batch or are sums."""
    mean = getattr(built.layer, "operation", "") == "MEAN"
    return built.type == "Reduction" and mean and built.shapes[0] == ()


def _is_sum(built: BuiltLayer) -> bool:
    if built.layer is None or not built.shapes or built.shapes[0] != ():
        return False
    return built.layer.is_loss or built.type == "Reduction"


def caveats(net: Net) -> list[str]:
    """Layers that mix the samples of a batch, for which ranks are not quite one net."""
    found = []
    for built in net.layers:
        if built.layer is None:
            continue
        if built.type == "BatchNorm" and not getattr(built.layer, "use_statistics", True):
            found.append(
                f"layer {built.name!r} (BatchNorm) takes its statistics from the rows of each "
                "rank, as Caffe does; the running ones that are saved are those of rank 0"
            )
        elif built.type in ("LSTM", "RNN", "BatchReindex", "Filter") or _joins_rows(built):
            found.append(
                f"layer {built.name!r} ({built.type}) works across the first axis, which is cut "
                "into one slice per rank; its results are not those of one device"
            )
        elif built.layer.is_loss and any(built.read):
            found.append(
                f"layer {built.name!r} ({built.type}): another layer reads its loss, of which each "
                "rank has a part; the sum of the ranks is right only where the reader multiplies "
                "it by a number and adds nothing"
            )
        elif _is_own(built):
            found.append(
                f"layer {built.name!r} (Python) gives a loss; it is taken for a mean over the batch"
            )
    return found


def _is_own(built: BuiltLayer) -> bool:
    """A loss in the user's own code, of which nobody knows what it divides by."""
    return built.type == "Python" and any(built.loss_weights)


def _joins_rows(built: BuiltLayer) -> bool:
    return built.type in ("Concat", "Slice") and getattr(built.layer, "along", None) == 0
