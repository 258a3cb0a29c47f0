"""tools/multinode_trial.py: what it calls equal, and (on demand) a trial."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from caffecompat.solver import Solver
from caffecompat.weights import load_weights, save_weights
from tools import multinode_trial
from tools.multinode_trial import DISTURBANCES, Outcome, difference, verdict

VARIABLE = "CAFFECOMPAT_MULTINODE_TRIAL"


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders with the same short training."""
    monkeypatch.setattr(multinode_trial, "LAST", 2)
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        multinode_trial.write_training(folder)
        solver = folder / "solver.prototxt"
        solver.write_text(solver.read_text().replace("max_iter: 600", "max_iter: 2"))
        monkeypatch.chdir(folder)
        Solver("solver.prototxt").solve()
    return folders


def test_the_least_difference_counts(trained: list[Path]) -> None:
    """One bit of one weight."""
    one, other = trained
    exact = DISTURBANCES["rank-killed"]
    outcome = Outcome(True, 1.0, [1, 1], [1])
    assert verdict(outcome, exact, difference(one, other)) == "equal in every bit"
    path = other / "snap_iter_2.caffemodel"
    weights = load_weights(path)
    layer = next(layer for layer in weights.layers if layer.blobs)
    blob = np.array(layer.blobs[0])
    blob.flat[3] = np.nextafter(blob.flat[3], np.float32(9))
    layer.blobs[0] = blob
    save_weights(weights, path)
    found = difference(one, other)
    assert 0 < found < 1e-6
    assert verdict(outcome, exact, found).startswith("DIFFERS")
    assert verdict(outcome, DISTURBANCES["node-gone"], found).startswith("equal within")
    path.unlink()
    assert verdict(outcome, DISTURBANCES["node-gone"], difference(other, one)).startswith("DIFFERS")


def test_what_was_never_disturbed_is_no_success() -> None:
    exact = DISTURBANCES["rank-killed"]
    assert verdict(Outcome(True, 1.0, [1, 1]), exact, 0.0) == "NOT RESUMED"
    assert verdict(Outcome(False, 1.0, [1, 1], [3]), exact, 0.0) == "DOES NOT END"


@pytest.mark.slow
@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"takes minutes; {VARIABLE}=1 runs it")
def test_a_trial(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ["rank-killed", "no-flag", "node-killed"]
    assert multinode_trial.main(["--keep", str(tmp_path / "trial"), *names]) == 0
    assert capfd.readouterr().out.count("equal in every bit") == len(names)
