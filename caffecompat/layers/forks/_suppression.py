"""Greedy non-maximum suppression, for any measure of overlap."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    Covers: TypeAlias = Callable[[Tensor, Tensor], Tensor]

# Boxes that are compared with each other at once.
_BLOCK = 512


def suppress(boxes: Tensor, covers: Covers, limit: int = 0) -> Tensor:
    """Indices (K) of the boxes that stay, in their order; the others are covered by one of them.

    The work is done on the host: each box depends on those before it.

    Args:
        boxes: (R, ...), the best first.
        covers: of boxes (M, ...) that stay and later boxes (N, ...), which drops which, (M, N)
            bool.
        limit: the largest number that stays; 0 for any.
    """
    import torch

    host = boxes.detach().cpu()
    kept = torch.zeros(0, dtype=torch.int64)
    for start in range(0, len(host), _BLOCK):
        block = host[start : start + _BLOCK]
        left = (~covers(host[kept], block).any(0)).numpy()
        within = covers(block, block).numpy()
        chosen = []
        for i in range(len(block)):
            if left[i]:
                chosen.append(start + i)
                left[i + 1 :] &= ~within[i, i + 1 :]
        kept = torch.cat([kept, torch.tensor(chosen, dtype=torch.int64)])
        if 0 < limit <= len(kept):
            kept = kept[:limit]
            break
    return kept.to(boxes.device)
