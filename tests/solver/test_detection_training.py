"""A small SSD learns to find the rectangles of a made-up detection set."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caffecompat.solver import Solver
from tests.detection_set import write_training


def test_mean_average_precision_exceeds_90_percent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("cv2")
    log = logging.getLogger("training of detections")
    caplog.set_level(logging.INFO, log.name)
    solver = Solver(write_training(tmp_path), log=log)
    solver.solve()
    lines = [record.message for record in caplog.records]
    (shown,) = (line for line in lines if "Test net output #0: detection_eval = " in line)
    assert float(shown.split()[-1]) > 0.9
    classes = [float(line.split()[-1]) for line in lines if line.startswith("class")]
    assert float(shown.split()[-1]) == pytest.approx(sum(classes) / 2, abs=1e-5)
