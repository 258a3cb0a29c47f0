"""The score of a test of detections: SSD's mean average precision (``eval_type: "detection"``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from caffecompat.data.detection_precision import average_precision
from caffecompat.errors import SolverError
from caffecompat.reporting.glog import number
from caffecompat.reporting.units import format_shape
from caffecompat.solver.scores import Scores, ScoreSums

# The columns of a row: image, class, score, true positive, false positive.
_COLUMNS = 5


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
        version: see :func:`caffecompat.data.detection_precision.average_precision`.
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
