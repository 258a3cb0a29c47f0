"""The codes in which SSD's nets predict boxes relative to prior boxes.

All functions broadcast over the axes before the last, which holds the four values of a box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def split_priors(priors: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes (P, 4) and the variances (P, 4) in a blob of priors (1, 2, 4 * P)."""
    both = priors.detach().reshape(2, -1, 4)
    return both[0], both[1]


def decode(code: str, values: Tensor, priors: Tensor, variances: Tensor | None) -> Tensor:
    """The boxes (xmin, ymin, xmax, ymax) that predictions mean.

    Args:
        code: CORNER, CENTER_SIZE or CORNER_SIZE.
        values: the predictions.
        priors: prior boxes (xmin, ymin, xmax, ymax).
        variances: factors of the predictions; None if the predictions contain them.
    """
    import torch

    scaled = values if variances is None else values * variances
    if code == "CORNER":
        return priors + scaled
    sizes = priors[..., 2:] - priors[..., :2]
    if code == "CORNER_SIZE":
        return priors + scaled * torch.cat([sizes, sizes], -1)
    centres = scaled[..., :2] * sizes + (priors[..., :2] + priors[..., 2:]) / 2
    halves = scaled[..., 2:].exp() * sizes / 2
    return torch.cat([centres - halves, centres + halves], -1)


def encode(code: str, boxes: Tensor, priors: Tensor, variances: Tensor | None) -> Tensor:
    """The values that :func:`decode` turns into ``boxes``; arguments as there."""
    import torch

    sizes = priors[..., 2:] - priors[..., :2]
    if code == "CORNER":
        values = boxes - priors
    elif code == "CORNER_SIZE":
        values = (boxes - priors) / torch.cat([sizes, sizes], -1)
    else:
        offsets = (boxes[..., :2] + boxes[..., 2:]) / 2 - (priors[..., :2] + priors[..., 2:]) / 2
        scales = (boxes[..., 2:] - boxes[..., :2]) / sizes
        values = torch.cat([offsets / sizes, scales.log()], -1)
    return values if variances is None else values / variances
