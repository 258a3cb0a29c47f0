"""The score of a test of detections: SSD's mean average precision (``eval_type: "detection"``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.errors import SolverError
from caffecompat.reporting.glog import number
from caffecompat.reporting.units import format_shape
from caffecompat.solver.scores import Scores, ScoreSums

Floats = NDArray[np.floating]

# The columns of a row: image, class, score, true positive, false positive.
_COLUMNS = 5
# Steps of the recall that are smaller do not count.
_SMALLEST_STEP = 1e-6


def average_precision(
    scores: NDArray[np.floating], hits: NDArray[np.bool_], objects: int, version: str
) -> float:
    """The average precision of one class.

    Args:
        scores: of the detections.
        hits: which of them are true positives; the others are false ones.
        objects: number of objects of the class.
        version: ``"11point"``: the mean of the largest precision from 11 recalls on (VOC 2007).
            ``"MaxIntegral"``: the area under the largest precision at that or any larger recall
            (VOC 2012, ILSVRC). ``"Integral"``: the area under the precision.

    Returns:
        0 to 1; 0 without objects or detections. Source: SSD's bbox_util.cpp.
    """
    if not objects or not len(scores):
        return 0.0
    order = np.argsort(-scores.astype(np.float32), kind="stable")
    found = np.cumsum(hits[order]).astype(np.float32)
    precision: Floats = found / np.arange(1, len(found) + 1, dtype=np.float32)
    recall: Floats = found / np.float32(objects)
    if version == "11point":
        return _mean_of_eleven(precision, recall)
    steps = np.diff(recall, prepend=np.float32(0)).astype(np.float64)
    steps[np.abs(steps) <= _SMALLEST_STEP] = 0
    if version == "MaxIntegral":
        # SSD takes the precision at the start of each step, not at its end.
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        precision = np.concatenate([envelope[:1], envelope[:-1]])
        steps[0] = recall[0]
    return float((precision * steps).sum())


def _mean_of_eleven(precision: Floats, recall: Floats) -> float:
    """The mean of the largest precisions at recalls of at least 0, 0.1, ..., 1."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall.astype(np.float64), np.arange(11) / 10)
    return float(np.append(envelope, np.float32(0))[places].astype(np.float64).mean())


@dataclass(frozen=True)
class ClassPrecision:
    """The average precision of a class; ``missing`` if there is no detection of it."""

    label: int
    precision: float
    missing: bool = False


def class_precisions(rows: NDArray[np.floating], version: str) -> list[ClassPrecision]:
    """The average precision of each class, from the rows of DetectionEvaluate of all batches."""
    counts, found = rows[rows[:, 0] == -1], rows[rows[:, 0] != -1]
    # A detection of a difficult object is neither a true nor a false positive.
    found = found[(found[:, 3] != 0) | (found[:, 4] != 0)]
    precisions = []
    for label in np.unique(counts[:, 1]):
        own = found[found[:, 1] == label]
        objects = int(counts[counts[:, 1] == label, 2].sum())
        value = average_precision(own[:, 2], own[:, 3] == 1, objects, version)
        precisions.append(ClassPrecision(int(label), value, missing=not len(own)))
    return precisions


@dataclass
class DetectionSums(ScoreSums):
    """Collects the rows of all passes; the score of an output is its mean average precision.

    Attributes:
        version: see :func:`average_precision`.
        show_classes: whether :meth:`lines` has a line for each class.
    """

    version: str = "Integral"
    show_classes: bool = False
    rows: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    def add(self, outputs: dict[str, torch.Tensor], loss: torch.Tensor) -> None:
        self.passes += 1
        self.loss = loss if self.loss is None else self.loss + loss
        for name, value in outputs.items():
            if value.dim() == 0 or value.shape[-1] != _COLUMNS:
                raise SolverError(
                    f"the test net's output {name!r} is {format_shape(value.shape)}, but "
                    "eval_type: 'detection' needs the rows of DetectionEvaluate (1, 1, rows, 5); "
                    "consume the output with a Silence layer, or remove eval_type"
                )
            rows = value.detach().float().reshape(-1, _COLUMNS).cpu().numpy()
            self.rows.setdefault(name, []).append(rows)

    def means(self) -> Scores:
        scores = super().means()
        return Scores(
            scores.loss,
            {
                name: [float(np.mean([one.precision for one in found]))]
                for name, found in self._precisions().items()
            },
        )

    def lines(self) -> Iterator[str]:
        """SSD's lines before those of the outputs."""
        for found in self._precisions().values():
            for one in found:
                if one.missing:
                    yield f"Missing true_pos for label: {one.label}"
                elif self.show_classes:
                    yield f"class{one.label}: {number(one.precision)}"

    def _precisions(self) -> dict[str, list[ClassPrecision]]:
        return {
            name: class_precisions(np.concatenate(rows), self.version)
            for name, rows in self.rows.items()
        }
