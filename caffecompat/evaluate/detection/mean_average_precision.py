"""The mean average precision of detections: as VOC and SSD compute it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.backends.database import guess_backend, open_database
from caffecompat.data.boxes import Boxes, overlaps
from caffecompat.data.codec.annotated_datum import objects_of, parse_annotated_datum
from caffecompat.data.codec.datum import decode_datum
from caffecompat.data.detection_precision import average_precision
from caffecompat.errors import DataError
from caffecompat.evaluate.detection.detections import Detections
from caffecompat.evaluate.detection.detector import Detector


@dataclass(frozen=True)
class TrueObjects:
    """The G objects of an image.

    Attributes:
        labels: (G,) classes.
        boxes: (G, 4): xmin, ymin, xmax, ymax, in the units of the detections.
        difficult: (G,); empty if none is.
    """

    labels: NDArray[np.int64]
    boxes: Boxes
    difficult: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))


@dataclass(frozen=True)
class PrecisionOptions:
    """How detections are scored.

    Attributes:
        version: ``11point``, ``MaxIntegral`` or ``Integral``; see
            :func:`caffecompat.data.detection_precision.average_precision`.
        overlap: the smallest overlap of a detection with its object.
        count_difficult: whether difficult objects count; otherwise their detections do not either.
        inclusive: whether the last row and column belong to a box, as in VOC.
    """

    version: str = "11point"
    overlap: float = 0.5
    count_difficult: bool = False
    inclusive: bool = False


@dataclass(frozen=True)
class DetectionReport:
    """The average precision of each class that has an object, and their mean."""

    mean: float
    classes: dict[int, float]


def mean_average_precision(
    truth: Sequence[TrueObjects],
    found: Sequence[Detections],
    options: PrecisionOptions | None = None,
) -> DetectionReport:
    """Scores the detections of a data set.

    A detection is right if the object of its class that it overlaps most overlaps it enough, and no
    detection with a larger score has found that object.

    Args:
        truth: the objects of each image.
        found: the detections in each image.
        options: how they are scored.

    Raises:
        DataError: there is no object.
    """
    options = options or PrecisionOptions()
    labels = np.unique(np.concatenate([np.zeros(0, np.int64), *(one.labels for one in truth)]))
    if not len(labels):
        raise DataError("the data set has no object, so that nothing can be scored")
    precisions = {}
    for label in labels.tolist():
        objects, scores, hits = 0, [np.zeros(0, np.float32)], [np.zeros(0, bool)]
        for own, detections in zip(truth, found, strict=True):
            count, values, right = _of_image(label, own, detections, options)
            objects, scores, hits = objects + count, [*scores, values], [*hits, right]
        if objects:
            precisions[label] = average_precision(
                np.concatenate(scores), np.concatenate(hits), objects, options.version
            )
    return DetectionReport(float(np.mean(list(precisions.values()))), precisions)


def _of_image(
    label: int, truth: TrueObjects, detections: Detections, options: PrecisionOptions
) -> tuple[int, NDArray[np.float32], NDArray[np.bool_]]:
    """The number of objects of a class in an image; scores of its detections; which are right."""
    chosen = truth.labels == label
    boxes = truth.boxes[chosen]
    difficult = truth.difficult[chosen] if len(truth.difficult) else np.zeros(len(boxes), bool)
    if options.count_difficult:
        difficult = np.zeros(len(boxes), bool)
    own = detections.chosen(np.flatnonzero(detections.labels == label)).sorted()
    counted, right = np.ones(len(own), bool), np.zeros(len(own), bool)
    if len(boxes) and len(own):
        shared = overlaps(own.boxes, boxes, extra=float(options.inclusive))
        taken = np.zeros(len(boxes), bool)
        for index, best in enumerate(shared.argmax(1).tolist()):
            if shared[index, best] < options.overlap:
                continue
            counted[index] = not difficult[best]
            right[index] = not taken[best]
            taken[best] = True
    return int((~difficult).sum()), own.scores[counted], right[counted]


def evaluate_database(
    detector: Detector,
    path: str,
    options: PrecisionOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionReport:
    """Runs a detector on the images of a database of AnnotatedDatum and scores what it finds.

    Args:
        detector: from :func:`caffecompat.evaluate.detection.detector.open_detector`.
        path: of a database that ``convert-annoset`` made.
        options: how the detections are scored.
        progress: called with the numbers of done and of all images.

    Raises:
        FileProblem, FormatError, DataError: the database cannot be read, or has no objects.
    """
    truth, found = [], []
    with open_database(path, guess_backend(path) or "LMDB") as database:
        for index in range(len(database)):
            record = parse_annotated_datum(database.read(index)[1])
            gray = detector.net.blobs[detector.net.inputs[0]].shape[1] == 1
            planes = decode_datum(record.datum, force_color=not gray, force_gray=gray)
            pixels = planes[0] if gray else np.ascontiguousarray(planes.transpose(1, 2, 0))
            objects = objects_of(record)
            height, width = pixels.shape[:2]
            scale = np.array([width, height, width, height], np.float32)
            truth.append(TrueObjects(objects.labels, objects.boxes * scale, objects.difficult))
            found.append(detector(pixels))
            if progress is not None:
                progress(index + 1, len(database))
    return mean_average_precision(truth, found, options)
