"""Ranks that torchrun starts again after a failure go on where they were."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.weights import load_weights, read_state
from tests.solver.distributed.rank_processes import RankProcesses
from tests.solver.distributed.small_run import write

LAST = 40


def trained(folder: Path, attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of a training of 40 iterations, with a snapshot after every eighth."""
    path = Path(write(folder, "snap"))
    settings = path.read_text().replace("max_iter: 12", f"max_iter: {LAST}")
    path.write_text(settings.replace("snapshot: 4", "snapshot: 8"))
    ranks = len(attempts[0]["counts"])
    run = {"ranks": ranks, "solver": str(path), "out": f"{folder}.out", "what": "command"}
    return {**run, "options": ["train", "--solver", str(path)], "attempts": attempts}


def result(folder: Path) -> list[np.ndarray]:
    state = read_state(folder / f"snap_iter_{LAST}.solverstate")
    weights = load_weights(folder / f"snap_iter_{LAST}.caffemodel")
    return [*state.history, *(blob for layer in weights.layers for blob in layer.blobs)]


def test_started_again_after_a_kill(tmp_path: Path, rank_processes: RankProcesses) -> None:
    """The same weights and histories bit for bit, though no --snapshot was given.

    The agents disagree about the number of restarts, as they do when one of them is new or has seen
    the other's restart before its own failure. A state of another training under the same prefix,
    with more iterations, is not taken.
    """
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    write(parts, "snap")
    undisturbed = trained(whole, [{"counts": [0, 0, 0]}])
    first = {"counts": [0, 0, 0], "killed": 2, "after": str(parts / "snap_iter_8.solverstate")}
    second = {"counts": [1, 0, 1], "killed": 0, "after": str(parts / "snap_iter_24.solverstate")}
    killed = trained(parts, [first, second, {"counts": [1, 0, 2]}])
    rank_processes.carry_out(tmp_path, undisturbed)
    for suffix in ("caffemodel", "solverstate"):
        foreign = parts / f"snap_iter_99.{suffix}"
        shutil.copy(whole / f"snap_iter_{LAST}.{suffix}", foreign)
    (text,) = rank_processes.carry_out(tmp_path, killed)
    assert "exit codes [1, 1, -9]" in text
    assert "exit codes [-9, 1, 1]" in text
    assert "exit codes [0, 0, 0]" in text
    assert text.count("torchrun has started the ranks again; this run goes on from ") == 2
    assert f"an earlier run, the last of them {parts}/snap_iter_99.solverstate" in text
    assert "Traceback" not in text
    found, expected = result(parts), result(whole)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_started_again_before_the_first_snapshot(
    tmp_path: Path, rank_processes: RankProcesses
) -> None:
    """There is nothing to go on from; a rank that was started alone restarts, too."""
    folder = tmp_path / "run"
    log_is_there = {"counts": [0], "killed": 0, "after": str(folder / "snap.lock")}
    (text,) = rank_processes.carry_out(tmp_path, trained(folder, [log_is_there, {"counts": [1]}]))
    assert "exit codes [-9]" in text
    assert "this run has no snapshot yet and begins anew" in text
    assert "exit codes [0]" in text
