"""The mean average precision of detections."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat.errors import DataError
from caffecompat.evaluate.detection.detections import Detections
from caffecompat.evaluate.detection.mean_average_precision import (
    PrecisionOptions,
    TrueObjects,
    mean_average_precision,
)


def objects(
    *rows: tuple[int, float, float, float, float], difficult: tuple[int, ...] = ()
) -> TrueObjects:
    table = np.array(rows, np.float32).reshape(-1, 5)
    hard = np.isin(np.arange(len(table)), difficult)
    return TrueObjects(table[:, 0].astype(np.int64), table[:, 1:], hard)


def found(*rows: tuple[int, float, float, float, float, float]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, 0].astype(np.int64), table[:, 1], table[:, 2:])


TRUTH = [
    objects((1, 0, 0, 10, 10), (1, 20, 20, 40, 40), (2, 0, 0, 30, 30)),
    objects((1, 5, 5, 15, 15), difficult=(0,)),
    objects(),
]
FOUND = [
    found((1, 0.9, 0, 0, 10, 10), (1, 0.8, 1, 0, 10, 10), (2, 0.6, 0, 0, 30, 29)),
    found((1, 0.95, 5, 5, 15, 15)),
    found((1, 0.7, 0, 0, 10, 10), (3, 0.9, 0, 0, 1, 1)),
]


def test_classes_and_their_mean() -> None:
    """Class 1: right, wrong (found before), wrong, of two objects that are not difficult."""
    report = mean_average_precision(TRUTH, FOUND, PrecisionOptions("Integral"))
    assert report.classes == {1: pytest.approx(0.5), 2: pytest.approx(1)}
    assert report.mean == pytest.approx(0.75)


def test_difficult_objects_may_count() -> None:
    options = PrecisionOptions("Integral", count_difficult=True)
    report = mean_average_precision(TRUTH, FOUND, options)
    assert report.classes[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("inclusive", "precision"), [(False, 0), (True, 1)])
def test_the_last_row_and_column_may_belong_to_a_box(inclusive: bool, precision: float) -> None:
    """2 x 2 of 3 x 3 pixels overlap less than half, 3 x 3 of 4 x 4 more."""
    truth, detections = [objects((1, 0, 0, 3, 3))], [found((1, 0.5, 0, 0, 2, 2))]
    options = PrecisionOptions("Integral", inclusive=inclusive)
    assert mean_average_precision(truth, detections, options).mean == precision


def test_no_objects() -> None:
    with pytest.raises(DataError, match="the data set has no object"):
        mean_average_precision([objects()], [found()])
