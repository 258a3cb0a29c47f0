"""Gradient buckets: all-reduce of the gradients while the backward pass still runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from caffecompat.net import Learnable
from caffecompat.solver.distributed.process_group import ProcessGroup

# Large enough that the cost of starting is small, small enough that the first starts early.
BUCKET_BYTES = 25 << 20
# Elements; kernels that work on several elements at once need each gradient to be aligned.
_ALIGNMENT = 64


@dataclass
class _Bucket:
    """Gradients that are stored one after the other in ``flat`` and reduced together.

    Each starts at a multiple of 64 elements; the elements between them are zeros.

    ``members`` has each parameter and its gradient, a view of ``flat``; ``missing`` counts the
    gradients that the current pass has not computed yet.
    """

    flat: torch.Tensor
    members: list[tuple[torch.Tensor, torch.Tensor]]
    missing: int = 0
    work: Any = None


class GradientBuckets:
    """Sums the gradients of all ranks, bucket by bucket, last layers first.

    Every ``.grad`` becomes a view into its bucket, which is summed in place as soon as the pass
    has filled it and the buckets before it. The losses of the ranks sum to that of the whole
    batch, so the summed gradients are those of one net over the whole batch.

    Args:
        learnable: parameters, in Caffe's order; those without gradients are left out.
        process_group: of the training.
    """

    def __init__(self, learnable: Sequence[Learnable], process_group: ProcessGroup) -> None:
        self._process_group = process_group
        self._overlaps = False
        tensors = [entry.tensor for entry in learnable if entry.tensor.requires_grad]
        self._buckets = [_bucket(group) for group in _groups(reversed(tensors), BUCKET_BYTES)]
        self._launched = 0
        for bucket in self._buckets:
            for tensor, gradient in bucket.members:
                tensor.grad = gradient
                tensor.register_post_accumulate_grad_hook(self._gradient_hook(bucket))

    def begin(self, overlap: bool) -> None:
        """Must be called before the last backward pass of an iteration.

        Args:
            overlap: each gradient is complete when its hook is called; otherwise all of them
                are summed in :meth:`finish`.
        """
        self._overlaps = overlap
        self._launched = 0
        for bucket in self._buckets:
            bucket.missing, bucket.work = len(bucket.members), None

    def finish(self) -> None:
        """Called after it: waits until all buckets are summed (on a GPU the device waits)."""
        self._overlaps = False
        while self._launched < len(self._buckets):
            self._launch()
        for bucket in self._buckets:
            self._process_group.finish(bucket.work)

    def _gradient_hook(self, bucket: _Bucket) -> Any:
        def hook(_: torch.Tensor) -> None:
            if not self._overlaps:
                return
            bucket.missing -= 1
            # All ranks must reduce in the same order, so a bucket waits for those before it.
            while self._launched < len(self._buckets) and self._is_full(self._launched):
                self._launch()

        return hook

    def _is_full(self, index: int) -> bool:
        return self._buckets[index].missing <= 0

    def _launch(self) -> None:
        bucket = self._buckets[self._launched]
        bucket.work = self._process_group.start_sum(bucket.flat)
        self._launched += 1


def _groups(tensors: Iterable[torch.Tensor], limit: int) -> list[list[torch.Tensor]]:
    groups: list[list[torch.Tensor]] = []
    free = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if not groups or size > free:
            groups.append([])
            free = limit
        groups[-1].append(tensor)
        free -= size
    return groups


def _bucket(tensors: list[torch.Tensor]) -> _Bucket:
    first = tensors[0]
    size = sum(_aligned(tensor.numel()) for tensor in tensors)
    flat = torch.zeros(size, dtype=first.dtype, device=first.device)
    members, start = [], 0
    for tensor in tensors:
        # The gradient has the strides of its parameter, which may be in channels-last order.
        members.append((tensor, flat.as_strided(tensor.shape, tensor.stride(), start)))
        start += _aligned(tensor.numel())
    return _Bucket(flat, members)


def _aligned(elements: int) -> int:
    return -(-elements // _ALIGNMENT) * _ALIGNMENT
