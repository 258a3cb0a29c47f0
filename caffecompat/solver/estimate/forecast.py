"""The forecast of a training, logged before its first iteration."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt

import torch

from caffecompat.net import Net
from caffecompat.proto.schema import Message
from caffecompat.reporting.glog import number
from caffecompat.reporting.units import format_memory
from caffecompat.solver.distributed.net_losses import find_losses
from caffecompat.solver.estimate.memory import Footprint
from caffecompat.solver.setup.net_plans import PlannedNet, scaled_plan

# Fraction of the free memory: libraries need some of it, and the rest is fragmented.
_USABLE = 0.95


@dataclass(frozen=True)
class Split:
    """The same training with smaller batches and more passes.

    Attributes:
        parts: ``batch_size`` is divided by it, ``iter_size`` multiplied.
        batch, passes: the new ``batch_size`` and ``iter_size``.
        difference: why the trajectory is not exactly the same; empty if it is.
    """

    parts: int
    batch: int
    passes: int
    difference: str = ""


@dataclass(frozen=True)
class Forecast:
    """The needs of a training and its number of iterations and snapshots.

    Attributes:
        batch: images per pass, None for a net without data layers.
        passes: passes per iteration.
        records: images in the training data, None if unknown.
        need: memory.
        free: free bytes on the device, None if unknown.
        max_iter: iterations of the whole training.
        snapshots: how many snapshots will be written, the last one included.
        disk: free bytes on their disk, None if unknown.
        split: a division that fits if ``need`` does not; None if ``need`` fits or no division does.
        place: name of the device.
    """

    batch: int | None
    passes: int
    records: int | None
    need: Footprint
    free: int | None
    max_iter: int
    snapshots: int
    disk: int | None
    split: Split | None
    place: str

    @property
    def fits(self) -> bool:
        return self.free is None or self.need.total <= _USABLE * self.free

    @property
    def pair_size(self) -> int:
        """Bytes of one snapshot, both files."""
        return self.need.parameters + self.need.history

    def lines(self) -> list[str]:
        """The log lines, without those of :meth:`warnings`."""
        lines = []
        if self.batch is not None:
            lines.append(self._data_line(self.batch * self.passes))
        need = self.need
        kinds = ("parameters", "gradients", "history", "activations")
        parts = ", ".join(f"{kind} {format_memory(getattr(need, kind))}" for kind in kinds)
        text = f"Forecast: memory {format_memory(need.total)} ({parts})"
        lines.append(text + ("" if self.free is None else f" of {format_memory(self.free)} free"))
        if self.snapshots:
            text = f"Forecast: {self.snapshots} snapshot(s) of {format_memory(self.pair_size)}"
            lines.append(f"{text}, {format_memory(self.snapshots * self.pair_size)} in all")
        return lines

    def _data_line(self, images: int) -> str:
        text = f"Forecast: {images} images per iteration"
        if not self.records:
            return text
        epochs = self.max_iter * images / self.records
        return (
            f"{text}, {self.records} per epoch ({number(self.records / images)} iterations); "
            f"max_iter {self.max_iter} is {number(epochs)} epochs"
        )

    def warnings(self) -> list[str]:
        """Problems with their remedies, one sentence each."""
        found = []
        if not self.fits and self.free is not None:
            found.append(self._memory_warning(self.free))
        if self.batch is not None and self.records and self.records < self.batch * self.passes:
            found.append(
                f"the training data has {self.records} records, fewer than the "
                f"{self.batch * self.passes} images of one iteration, which sees some of them more "
                "than once"
            )
        if self.disk is not None and self.snapshots * self.pair_size > self.disk:
            fewer = ", or raise 'snapshot'" if self.pair_size <= self.disk else ""
            found.append(
                f"the snapshots need {format_memory(self.snapshots * self.pair_size)}, but only "
                f"{format_memory(self.disk)} are free on the disk; make room{fewer}"
            )
        return found

    def _memory_warning(self, free: int) -> str:
        text = f"this training needs about {format_memory(self.need.total)}, but {self.place} has "
        text += f"{format_memory(free)} free"
        if self.split is None:
            return f"{text}; not even one image per pass would fit"
        text += f"; with batch_size {self.split.batch} and iter_size {self.split.passes} the "
        text += "gradients are equal and it fits (--auto-iter-size does that)"
        return text + (f"; {self.split.difference}" if self.split.difference else "")


def make_forecast(
    net: Net,
    need: Footprint,
    message: Message,
    prefix: str,
    device: torch.device,
    free: int | None,
    world_size: int = 1,
) -> Forecast:
    """Makes the forecast of a training.

    Args:
        net: the train net; a shapes-only net has no record count.
        need: its memory.
        message: SolverParameter.
        prefix: the snapshot prefix.
        free: bytes free on ``device``, see :func:`caffecompat.net.allocation.available`.
        world_size: processes that share each batch; ``need`` is that of one of them.
    """
    batch = batch_size(net)
    passes = int(message.iter_size)
    whole = Forecast(
        batch,
        passes,
        records(net),
        need,
        free,
        int(message.max_iter),
        _snapshots(message),
        _free_disk(prefix),
        None,
        f"device {device}" if device.type == "cuda" else "this machine",
    )
    if whole.fits or batch is None or free is None or not can_split(net):
        return whole
    split = _find_split(need, batch, passes, free, batch // world_size)
    return replace(whole, split=split and replace(split, difference=_difference(net)))


def _find_split(need: Footprint, batch: int, passes: int, free: int, most: int) -> Split | None:
    for parts in _divisors(batch):
        if 1 < parts <= most and need.divided(parts).total <= _USABLE * free:
            return Split(parts, batch // parts, passes * parts)
    return None


def _divisors(number: int) -> list[int]:
    """All divisors of ``number``, the smallest first."""
    small = [i for i in range(1, isqrt(number) + 1) if number % i == 0]
    return sorted({*small, *(number // i for i in small)})


def _difference(net: Net) -> str:
    """Why smaller passes are not exactly the same training, for the first layer of that kind."""
    for built, losses in find_losses(net).layers:
        coupling = None if built.layer is None else built.layer.batch_coupling
        name = f"layer {built.name!r} ({built.type})"
        if coupling is not None:
            return f"{name} {coupling}, which will be smaller"
        for reduction in losses.values():
            if reduction.kind == "sum":
                return f"{name} adds up its batch, but passes are averaged: its loss counts less"
            if reduction.kind == "unknown":
                return f"{name} does not say whether its loss is a mean over the batch"
            if reduction.count is not None:
                return f"{name} averages over the labels of each pass, not of the whole batch"
    return ""


def batch_size(net: Net) -> int | None:
    """Images per pass of all ranks together; None for a net without data."""
    if net.samples is not None:
        return net.samples.total
    for built in net.layers:
        if built.source is not None and built.shapes and built.shapes[0]:
            return int(built.shapes[0][0])
    return None


def records(net: Net) -> int | None:
    """How many records the first data layer's source has; None if unknown."""
    return next((built.source.records for built in net.layers if built.source is not None), None)


def can_split(net: Net) -> bool:
    """Whether all data layers have the same batch size, which can be divided."""
    sizes = [
        built.source.batch_size(built.node.message) if built.source.reads_shard else None
        for built in net.layers
        if built.source is not None
    ]
    return bool(sizes) and None not in sizes and len(set(sizes)) == 1


def split_plan(plan: PlannedNet, split: Split) -> PlannedNet:
    """The train net with smaller batches."""
    return scaled_plan(plan, Fraction(1, split.parts))


def split_settings(message: Message, split: Split) -> None:
    """Changes a SolverParameter so that ``split.parts`` as many passes give the same updates."""
    message.iter_size *= split.parts
    if message.clip_gradients > 0:
        # The norm is taken before the division by iter_size, of a sum of more passes.
        message.clip_gradients *= split.parts


def _snapshots(message: Message) -> int:
    interval = int(message.snapshot)
    regular = int(message.max_iter) // interval if interval > 0 else 0
    last = message.snapshot_after_train and not (interval > 0 and message.max_iter % interval == 0)
    return regular + bool(last)


def _free_disk(prefix: str) -> int | None:
    try:
        return shutil.disk_usage(os.path.dirname(prefix) or ".").free
    except OSError:
        return None
