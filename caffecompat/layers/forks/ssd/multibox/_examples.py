"""The examples of MultiBoxLoss: the matches of a batch, and the mined negatives."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes
from caffecompat.layers.forks.ssd._box_codes import decode
from caffecompat.layers.forks.ssd._ground_truth import Truth
from caffecompat.layers.forks.ssd.multibox._matching import LEFT_OUT, UNMATCHED, Match, match_boxes
from caffecompat.layers.forks.ssd.multibox._mining import mine
from caffecompat.layers.forks.ssd.multibox._multibox_losses import (
    confidence_losses,
    indices,
    location_losses,
)
from caffecompat.layers.forks.ssd.multibox._multibox_options import (
    Examples,
    MultiBoxOptions,
    Predictions,
)

# By image and location class.
Matches: TypeAlias = dict[tuple[int, int], Match]


def find_examples(
    predicted: Predictions, truth: dict[int, Truth], options: MultiBoxOptions
) -> Examples:
    """The boxes that take part in the losses of a batch.

    Args:
        predicted: the net's predictions.
        truth: the objects of the images that have any.
        options: of the layer.
    """
    if not options.use_difficult:
        truth = {image: _easy(one) for image, one in truth.items() if not one.difficult.all()}
    matches = _match(predicted, truth, options)
    examples = _collect(truth, matches, options)
    if not options.mines or not truth:
        return examples
    return _mine(predicted, truth, matches, examples, options)


def _easy(truth: Truth) -> Truth:
    kept = ~truth.difficult
    return Truth(truth.labels[kept], truth.boxes[kept], truth.difficult[kept])


def _match(predicted: Predictions, truth: dict[int, Truth], options: MultiBoxOptions) -> Matches:
    """The matches of each image that has objects."""
    if options.match_priors:
        priors = predicted.priors.float().cpu().numpy()
        return {
            (image, label): match
            for image, one in truth.items()
            for label, match in _match_priors(_of(priors, image), one, options)
        }
    decoded = _decoded(predicted, options)
    found = {}
    for image, one in truth.items():
        for label in _location_labels(options):
            chosen = np.flatnonzero((one.labels == label) | options.share_location)
            match = match_boxes(one.boxes[chosen], decoded[image, :, label], options.matching)
            objects = match.objects.copy()
            objects[objects >= 0] = chosen[objects[objects >= 0]]
            found[image, label] = Match(objects, match.overlaps)
    return found


def _match_priors(priors: Boxes, truth: Truth, options: MultiBoxOptions) -> list[tuple[int, Match]]:
    """The match of an image's objects with priors, for each location class."""
    together = match_boxes(truth.boxes, priors, options.matching)
    if options.share_location:
        return [(0, together)]
    found = []
    for label in _location_labels(options):
        own = (together.objects >= 0) & (truth.labels[together.objects] == label)
        found.append((label, Match(np.where(own, together.objects, UNMATCHED), together.overlaps)))
    return found


def _location_labels(options: MultiBoxOptions) -> list[int]:
    if options.share_location:
        return [0]
    return [label for label in range(options.classes) if label != options.background]


def _decoded(predicted: Predictions, options: MultiBoxOptions) -> Boxes:
    """The predicted boxes (N, P, location classes, 4)."""
    factors = options.factors(predicted.variances)
    boxes = decode(
        options.code,
        predicted.locations.detach(),
        predicted.priors[..., None, :],
        None if factors is None else factors[:, None],
    )
    found: Boxes = boxes.float().cpu().numpy()
    return found


def _of(boxes: Boxes, image: int) -> Boxes:
    """The boxes of one image, where all images may share them."""
    return boxes if boxes.ndim == 2 else boxes[image]


def _collect(truth: dict[int, Truth], matches: Matches, options: MultiBoxOptions) -> Examples:
    """The matches as examples, without negatives."""
    images, classes, boxes, labels = ([np.zeros(0, np.int64)] for _ in range(4))
    objects = [np.zeros((0, 4), np.float32)]
    for (image, label), match in matches.items():
        found = np.flatnonzero(match.objects > UNMATCHED)
        images.append(np.full(len(found), image))
        classes.append(np.full(len(found), label))
        boxes.append(found)
        labels.append(truth[image].labels[match.objects[found]])
        objects.append(truth[image].boxes[match.objects[found]])
    every = np.concatenate(labels)
    if options.agnostic:
        every = np.full_like(every, options.background + 1)
    none = np.zeros(0, np.int64)
    return Examples(
        images=np.concatenate(images),
        classes=np.concatenate(classes),
        boxes=np.concatenate(boxes),
        objects=np.concatenate(objects),
        labels=every,
        negative_images=none,
        negative_boxes=none,
    )


def _mine(
    predicted: Predictions,
    truth: dict[int, Truth],
    matches: Matches,
    examples: Examples,
    options: MultiBoxOptions,
) -> Examples:
    """The matches that remain examples, and the negatives; all classes share the locations."""
    losses = _losses(predicted, examples, options)
    boxes = predicted.priors.float().cpu().numpy()
    if options.mining.nms_threshold > 0 and not options.suppress_priors:
        boxes = _decoded(predicted, options)[:, :, 0]
    kept: Matches = {}
    images, places = [], []
    for (image, label), match in matches.items():
        candidates = predicted.candidates[image]
        mined = mine(match, losses[image], _of(boxes, image), candidates, options.mining)
        remains = mined.positive | (match.objects <= LEFT_OUT)
        kept[image, label] = Match(np.where(remains, match.objects, UNMATCHED), match.overlaps)
        chosen = np.flatnonzero(mined.negative)
        images.append(np.full(len(chosen), image))
        places.append(chosen)
    negatives = {"negative_images": images, "negative_boxes": places}
    joined = {name: np.concatenate(parts) for name, parts in negatives.items()}
    return replace(_collect(truth, kept, options), **joined)


def _losses(
    predicted: Predictions, examples: Examples, options: MultiBoxOptions
) -> NDArray[np.float32]:
    """The loss of each box (N, P) if it were an example."""
    import torch

    count, boxes = predicted.scores.shape[:2]
    labels = np.full((count, boxes), options.background, np.int64)
    labels[examples.images, examples.boxes] = examples.labels
    with torch.no_grad():
        scores = predicted.scores.reshape(count * boxes, -1)
        classes = indices(labels.reshape(-1), scores)
        losses = confidence_losses(scores, classes, options).reshape(count, boxes)
        if options.mining.kind == "HARD_EXAMPLE" and len(examples.images):
            found = location_losses(predicted, examples, options).sum(1).to(losses.dtype)
            place = (indices(examples.images, scores), indices(examples.boxes, scores))
            losses = losses.index_put(place, found, accumulate=True)
    every: NDArray[np.float32] = losses.float().cpu().numpy()
    return every
