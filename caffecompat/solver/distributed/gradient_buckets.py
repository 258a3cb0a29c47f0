"""Gradients of all ranks added up while the backward pass still runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from caffecompat.net import Learnable
from caffecompat.solver.distributed.process_group import ProcessGroup

# Large enough that starting costs little, small enough that the first one starts early.
BUCKET_BYTES = 25 << 20


@dataclass
class _Bucket:
    """Gradients that lie one after the other in ``flat`` and travel together.

    ``members`` has each parameter and its gradient, a view of ``flat``; ``waiting`` counts those
    that the running pass has not brought yet.
    """

    flat: torch.Tensor
    members: list[tuple[torch.Tensor, torch.Tensor]]
    waiting: int = 0
    work: Any = None


class GradientBuckets:
    """Adds the gradients of all ranks up, bucket by bucket, last layers first.

    Every ``.grad`` becomes a view into its bucket, which is summed in place as soon as the pass
    has filled it and the buckets before it. Each rank's loss is its part of the whole loss, so
    the sums are the gradients of one net over the whole batch.

    Args:
        learnable: parameters, in Caffe's order; those without gradients are left out.
        process_group: of the training.
    """

    def __init__(self, learnable: Sequence[Learnable], process_group: ProcessGroup) -> None:
        self._process_group = process_group
        self._armed = False
        tensors = [entry.tensor for entry in learnable if entry.tensor.requires_grad]
        self._buckets = [_bucket(group) for group in _groups(reversed(tensors), BUCKET_BYTES)]
        self._launched = 0
        for bucket in self._buckets:
            for tensor, gradient in bucket.members:
                tensor.grad = gradient
                tensor.register_post_accumulate_grad_hook(self._arrival(bucket))

    def begin(self, overlap: bool) -> None:
        """Before the last backward pass of an iteration.

        Args:
            overlap: each gradient is complete when it arrives; without that all of them are
                summed in :meth:`finish`.
        """
        self._armed = overlap
        self._launched = 0
        for bucket in self._buckets:
            bucket.waiting, bucket.work = len(bucket.members), None

    def finish(self) -> None:
        """After it: the rest is sent, and the sums are waited for (on a GPU by the device)."""
        self._armed = False
        while self._launched < len(self._buckets):
            self._launch()
        for bucket in self._buckets:
            self._process_group.finish(bucket.work)

    def _arrival(self, bucket: _Bucket) -> Any:
        def arrived(_: torch.Tensor) -> None:
            if not self._armed:
                return
            bucket.waiting -= 1
            # All ranks must send in one order, so a bucket waits for those before it.
            while self._launched < len(self._buckets) and self._is_full(self._launched):
                self._launch()

        return arrived

    def _is_full(self, index: int) -> bool:
        return self._buckets[index].waiting <= 0

    def _launch(self) -> None:
        bucket = self._buckets[self._launched]
        bucket.work = self._process_group.start_sum(bucket.flat)
        self._launched += 1


def _groups(tensors: Iterable[torch.Tensor], limit: int) -> list[list[torch.Tensor]]:
    groups: list[list[torch.Tensor]] = []
    room = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if not groups or size > room:
            groups.append([])
            room = limit
        groups[-1].append(tensor)
        room -= size
    return groups


def _bucket(tensors: list[torch.Tensor]) -> _Bucket:
    first = tensors[0]
    flat = torch.zeros(sum(t.numel() for t in tensors), dtype=first.dtype, device=first.device)
    members, start = [], 0
    for tensor in tensors:
        # The parameter's own order in memory, which may have its channels innermost.
        members.append((tensor, flat.as_strided(tensor.shape, tensor.stride(), start)))
        start += tensor.numel()
    return _Bucket(flat, members)
