"""The two losses of MultiBoxLoss, box by box."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caffecompat.layers.forks.ssd._box_codes import decode, encode
from caffecompat.layers.forks.ssd.multibox._multibox_options import (
    Examples,
    MultiBoxOptions,
    Predictions,
)

if TYPE_CHECKING:
    from torch import Tensor

# -log of the smallest normal float: the largest loss of one softmax.
_LARGEST_LOSS = 126 * log(2)


def indices(values: NDArray[np.int64], like: Tensor) -> Tensor:
    """Indices as a tensor on the device of ``like``."""
    import torch

    return torch.from_numpy(values).to(like.device)


def location_losses(predicted: Predictions, examples: Examples, options: MultiBoxOptions) -> Tensor:
    """The losses of the four values of each match, (M, 4)."""
    import torch

    images, boxes = (indices(i, predicted.scores) for i in (examples.images, examples.boxes))
    values = predicted.locations[images, boxes, indices(examples.classes, predicted.scores)]
    priors = predicted.priors
    priors = priors[boxes] if priors.dim() == 2 else priors[images, boxes]
    variances = predicted.variances[boxes]
    factors = options.factors(variances)
    objects = torch.from_numpy(examples.objects).to(priors)
    targets = encode(options.code, objects, priors, factors)
    if options.inside_only:
        inside = priors
        if not options.match_priors:
            inside = decode(options.code, values.detach(), priors, factors)
        values = values.where((inside >= 0) & (inside <= 1), targets.to(values.dtype))
    difference = values - targets
    if options.variance_in_target:
        difference = difference / variances
    squares = 0.5 * difference.square()
    if options.squared:
        return squares
    size = difference.abs()
    return squares.where(size < 1, size - 0.5)


def confidence_losses(scores: Tensor, labels: Tensor, options: MultiBoxOptions) -> Tensor:
    """The losses (E,) of scores (E, classes) with labels (E,).

    A label of -1, which only the logistic loss can have, is a box without any class.
    """
    import torch
    from torch.nn import functional

    if options.logistic:
        classes = torch.arange(scores.shape[1], device=scores.device)
        targets = (labels[:, None] == classes).to(scores.dtype)
        every = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return every.sum(1)
    losses = functional.cross_entropy(scores, labels, reduction="none")
    # Caffe clamps the loss, but not its gradient.
    return losses - (losses - losses.clamp(max=_LARGEST_LOSS)).detach()


def confidence_loss(predicted: Predictions, examples: Examples, options: MultiBoxOptions) -> Tensor:
    """The sum over all examples; without mining over all boxes of all images."""
    scores = predicted.scores
    if not options.mines:
        # Without mining SSD's logistic loss has no target for the background.
        background = -1 if options.logistic else options.background
        every = np.full(scores.shape[:2], background, np.int64)
        every[examples.images, examples.boxes] = examples.labels
        labels = indices(every.reshape(-1), scores)
        return confidence_losses(scores.flatten(0, 1), labels, options).sum()
    images = np.concatenate([examples.images, examples.negative_images])
    boxes = np.concatenate([examples.boxes, examples.negative_boxes])
    negative = np.full(len(examples.negative_boxes), options.background, np.int64)
    chosen = scores[indices(images, scores), indices(boxes, scores)]
    labels = indices(np.concatenate([examples.labels, negative]), scores)
    return confidence_losses(chosen, labels, options).sum()
