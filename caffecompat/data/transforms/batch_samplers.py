"""Random crops that objects limit: SSD's ``batch_sampler``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import Boxes, coverages, overlaps
from caffecompat.data.sample_choices import MOST_NUMBERS, SampleChoices
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

FIELDS = ("use_original_image", "sampler", "sample_constraint", "max_sample", "max_trials")
_TRIALS_AT_ONCE = 64


class BatchSamplers:
    """Draws crops with each sampler, and takes one of all of them.

    A sampler makes up to ``max_trials`` crops of a random scale, aspect ratio and place, and keeps
    the first ``max_sample`` that meet its constraint. A constraint holds if an object meets it; of
    several kinds only the first counts, in the order overlap, share of the crop, share of the
    object, as in SSD. A sampler with ``use_original_image: false`` makes none.

    Args:
        samplers: BatchSampler messages.

    Raises:
        DataError: a range is in the wrong order or out of bounds.
    """

    def __init__(self, samplers: Sequence[Message]) -> None:
        self._samplers = list(samplers)
        for p in samplers:
            low, high = p.sampler.min_scale, p.sampler.max_scale
            if not 0 < low <= high <= 1:
                raise DataError(
                    f"batch_sampler: min_scale is {low:g} and max_scale is {high:g}; give numbers "
                    "above 0 up to 1, in this order"
                )
            low, high = p.sampler.min_aspect_ratio, p.sampler.max_aspect_ratio
            if not 0 < low <= high < float("inf"):
                raise DataError(
                    f"batch_sampler: min_aspect_ratio is {low:g} and max_aspect_ratio is {high:g}; "
                    "give positive numbers, in this order"
                )
            if p.max_trials > MOST_NUMBERS:
                raise DataError(
                    f"batch_sampler: max_trials is {p.max_trials}, at most {MOST_NUMBERS} allowed"
                )

    def draw(self, objects: Boxes, choices: SampleChoices) -> Boxes | None:
        """A crop (xmin, ymin, xmax, ymax), relative to the image; None for the whole image.

        Args:
            objects: (G, 4) boxes of the image's objects.
            choices: of the sample.
        """
        found = [
            self._crops(p, f"sampler {number}", objects, choices)
            for number, p in enumerate(self._samplers)
            if p.use_original_image
        ]
        every = np.concatenate([np.zeros((0, 4), np.float32), *found])
        if not len(every):
            return None
        crop: Boxes = every[choices.pick("crop of samplers", len(every))]
        return crop

    def _crops(self, p: Message, purpose: str, objects: Boxes, choices: SampleChoices) -> Boxes:
        """The crops that one sampler keeps."""
        most = p.max_sample if p.HasField("max_sample") else p.max_trials
        kept = np.zeros((0, 4), np.float32)
        for start in range(0, p.max_trials, _TRIALS_AT_ONCE):
            if len(kept) >= most:
                break
            count = min(_TRIALS_AT_ONCE, p.max_trials - start)
            crops = _random_crops(p.sampler, purpose, choices, start, count)
            kept = np.concatenate([kept, crops[_meets(crops, objects, p.sample_constraint)]])
        return kept[:most]


def _random_crops(
    p: Message, purpose: str, choices: SampleChoices, start: int, count: int
) -> Boxes:
    """Crops of random scale, aspect ratio and place."""

    def drawn(what: str, low: float, high: float) -> NDArray[np.float32]:
        return choices.uniforms(f"{purpose} {what}", low, high, count, start)

    scale = drawn("scale", p.min_scale, p.max_scale)
    ratio = drawn("aspect ratio", p.min_aspect_ratio, p.max_aspect_ratio)
    # A crop does not reach beyond the image.
    ratio = np.minimum(np.maximum(ratio, scale**2), 1 / scale**2)
    size = np.stack([scale * np.sqrt(ratio), scale / np.sqrt(ratio)], 1)
    place = np.stack([drawn("column", 0, 1), drawn("row", 0, 1)], 1)
    low = place * (1 - size)
    return np.concatenate([low, low + size], 1).astype(np.float32)


def _meets(crops: Boxes, objects: Boxes, p: Message) -> NDArray[np.bool_]:
    """Which crops meet a SampleConstraint."""
    measures = (
        ("jaccard_overlap", lambda: overlaps(crops, objects)),
        ("sample_coverage", lambda: coverages(crops, objects)),
        ("object_coverage", lambda: coverages(objects, crops).T),
    )
    for name, measure in measures:
        low, high = f"min_{name}", f"max_{name}"
        if p.HasField(low) or p.HasField(high):
            values = measure()
            right = np.ones(values.shape, bool)
            if p.HasField(low):
                right &= values >= np.float32(getattr(p, low))
            if p.HasField(high):
                right &= values <= np.float32(getattr(p, high))
            met: NDArray[np.bool_] = np.logical_or.reduce(right, 1)
            return met
    return np.ones(len(crops), bool)
