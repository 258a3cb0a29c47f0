"""Proposals of all images of a batch as tops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# What follows when there is no box: one region that any image has.
_NO_BOX = (0.0, 1.0, 1.0, 10.0, 10.0)


def proposal_tops(found: Sequence[Tensor], with_scores: bool) -> Tensor | tuple[Tensor, Tensor]:
    """Regions (K, 5, 1, 1), and perhaps rows (K, 6, 1, 1) that have their scores too.

    Args:
        found: for each image (K_i, 5): x1, y1, x2, y2, score.
    """
    import torch

    rows = [
        torch.cat([boxes.new_full((len(boxes), 1), image), boxes], 1)
        for image, boxes in enumerate(found)
    ]
    every = torch.cat(rows)
    regions = every[:, :5] if len(every) else every.new_tensor([_NO_BOX])
    if not with_scores:
        return regions.reshape(-1, 5, 1, 1)
    scored = every if len(every) else every.new_zeros(1, 6)
    return regions.reshape(-1, 5, 1, 1), scored.reshape(-1, 6, 1, 1)


def empty_tops(like: Tensor, with_scores: bool) -> Tensor | tuple[Tensor, Tensor]:
    """Tops with one row, for the shapes of a net that is built."""
    regions = like.new_empty(1, 5, 1, 1)
    return (regions, like.new_empty(1, 6, 1, 1)) if with_scores else regions
