"""Several processes train as one does: samples, noise, losses, gradients, resuming, ending."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import SolverError
from caffecompat.solver.distributed.process_group import is_rank, local_rank
from caffecompat.weights import load_weights
from tests.places import REPOSITORY
from tests.programs import run_program
from tests.solver.distributed.rank_processes import RankProcesses
from tests.solver.distributed.small_run import a_run, assert_same, seen, write


def test_two_and_three_are_one(tmp_path: Path, rank_processes: RankProcesses) -> None:
    """Seven images over two and three ranks, too: their slices are of different sizes."""
    solver = write(tmp_path / "run", "snap")
    debugged = write(tmp_path / "run", "debugged", "debug_info: true")
    outs = [tmp_path / f"{i}.npz" for i in range(4)]
    rank_processes.carry_out(
        tmp_path,
        a_run(outs[0], 1, solver, 7),
        # So small that each gradient has a bucket of its own.
        a_run(outs[1], 2, solver, 7, bucket=8),
        a_run(outs[2], 3, solver, 7),
        a_run(outs[3], 2, debugged, 7, bucket=300),
    )
    one = seen(outs[0])
    assert one["feed/0/0"].shape == (7, 3, 5, 5)
    assert one["shown"].shape[0] == 7
    assert np.ptp(one["shown"][:, 0]) > 0.1
    for out in outs[1:]:
        assert_same(seen(out), one)


def test_resumed_on_other_numbers_of_ranks(tmp_path: Path, rank_processes: RankProcesses) -> None:
    """Two ranks, then one, then three go the way of one that nothing has interrupted."""
    whole = write(tmp_path / "run", "whole")
    parts = write(tmp_path / "run", "parts")
    out = tmp_path / "whole.npz"
    runs = [a_run(out, 1, whole, 12)]
    for i, ranks in enumerate((2, 1, 3)):
        snapshot = f"{tmp_path}/run/parts_iter_{4 * i}.solverstate" if i else None
        runs.append(a_run(tmp_path / f"{ranks}.npz", ranks, parts, 4, snapshot=snapshot))
    rank_processes.carry_out(tmp_path, *runs)
    expected, last = seen(out), seen(tmp_path / "3.npz")
    # The displayed loss is averaged anew after resuming, the last iteration's own is not.
    shown, displayed = last.pop("shown"), expected.pop("shown")
    assert_same(last, expected)
    np.testing.assert_allclose(shown[-1, 1:], displayed[-1, 1:], rtol=1e-5, atol=1e-6)


def test_the_batch_on_each_device(tmp_path: Path, rank_processes: RankProcesses) -> None:
    """Caffe's convention on two ranks is a batch of twice the size on one."""
    solver = write(tmp_path / "run", "snap")
    net = tmp_path / "run" / "net.prototxt"
    outs = [tmp_path / "two.npz", tmp_path / "one.npz"]
    half = net.read_text().replace("batch_size: 7", "batch_size: 4").replace("[7, 3]", "[4, 3]", 1)
    net.write_text(half)
    rank_processes.carry_out(
        tmp_path, a_run(outs[0], 2, solver, 3, options={"batch_per_device": True})
    )
    twice = half.replace("batch_size: 4 }", "batch_size: 8 }", 1)
    net.write_text(twice.replace("[4, 3]", "[8, 3]", 1))
    rank_processes.carry_out(tmp_path, a_run(outs[1], 1, solver, 3))
    assert seen(outs[1])["feed/0/0"].shape[0] == 8
    assert_same(seen(outs[0]), seen(outs[1]))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("die", "has died without a message"),
        ("fail", "rank 2 of 3 failed: this rank does not like it any more"),
        ("diverge", "the loss is "),
    ],
)
def test_a_rank_that_ends_takes_the_others_with_it(
    what: str, words: str, tmp_path: Path, rank_processes: RankProcesses
) -> None:
    solver = write(tmp_path / "run", "snap")
    if what == "diverge":
        Path(solver).write_text(Path(solver).read_text().replace("0.05", "1e30"))
    (text,) = rank_processes.carry_out(tmp_path, a_run(tmp_path / "out", 3, solver, 9, what=what))
    codes = [1, 1, -9] if what == "die" else [1, 1, 1]
    assert f"exit codes {codes}" in text
    assert words in text
    for rank in (0, 1) if what != "diverge" else ():
        assert f"caffecompat: error: rank {rank}: rank 2 of 3" in text
    assert "Traceback" not in text


def test_a_broken_connection_is_no_cause(tmp_path: Path, rank_processes: RankProcesses) -> None:
    """Rank 1 passes on that rank 2 has died, also while its training fails for that reason."""
    solver = write(tmp_path / "run", "snap")
    run = a_run(tmp_path / "out", 3, solver, 9, what="die", late=True)
    (text,) = rank_processes.carry_out(tmp_path, run)
    assert "exit codes [1, 1, -9]" in text
    for rank in (0, 1):
        assert f"caffecompat: error: rank {rank}: rank 2 of 3 has died without a message" in text
    assert "lost the other ranks" not in text


def test_a_rank_that_is_suspended(tmp_path: Path, rank_processes: RankProcesses) -> None:
    """The others say who is silent, and end when that has lasted too long; so does it, woken up."""
    solver = write(tmp_path / "run", "snap")
    run = a_run(tmp_path / "out", 3, solver, 9, what="suspend", every=1.0, limit=4.0)
    (text,) = rank_processes.carry_out(tmp_path, run)
    assert "exit codes [1, 1, 1]" in text
    assert "caffecompat: rank 1: rank 2 of 3 has not been heard from for 1 s" in text
    assert "rank 2 of 3 has not been heard from for 4 s" in text
    assert "--rank-timeout 4" in text
    assert "Traceback" not in text


ALONE = """
import sys
from caffecompat.errors import CaffeError
from caffecompat.solver.distributed import rendezvous
from caffecompat.solver.distributed.process_group import join_ranks
rendezvous.REPORT_INTERVAL = 0.5
try:
    with join_ranks("cpu", 2.0):
        pass
except CaffeError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("rank", "host", "words"),
    [
        (0, "127.0.0.1", "waiting for rank 1 of 2"),
        (1, "127.0.0.1", "no answer yet from 127.0.0.1:"),
        (1, "no-such-host.invalid", "the host 'no-such-host.invalid' of rank 0 is not known here"),
    ],
)
def test_a_rank_that_is_missing(rank: int, host: str, words: str) -> None:
    """Rank 1 never starts; a port that accepts and never answers; an unknown host."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        if rank == 0:
            silent.close()
        else:
            silent.listen()
        place = {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
        variables = {**os.environ, **place, "RANK": str(rank), "WORLD_SIZE": "2"}
        result = run_program(["-c", ALONE], environment=variables, timeout=100)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    said = [line for line in lines if line.startswith(f"caffecompat: rank {rank}: {words}")]
    assert said
    assert said[0].endswith(" s of 2)")
    assert f"rank {rank} of 2 gives up after 2 s (--rank-timeout): {words}" in lines[-1]


def test_one_rank_is_told_to_stop(tmp_path: Path, rank_processes: RankProcesses) -> None:
    solver = write(tmp_path / "run", "snap")
    (text,) = rank_processes.carry_out(tmp_path, a_run(tmp_path / "out", 2, solver, what="signal"))
    assert text.count("stopped at 1, preempted True") == 2
    assert "exit codes [0, 0]" in text
    assert (tmp_path / "run" / "snap_iter_1.solverstate").exists()


def test_the_command_line(tmp_path: Path, rank_processes: RankProcesses) -> None:
    solver = write(tmp_path / "run", "snap")
    command = ["train", "--solver", solver, "--snapshot", "auto"]
    bad = ["train", "--solver", write(tmp_path / "run", "bad", "solver_mode: GPU")]
    runs = [
        a_run(tmp_path / "good", 2, solver, what="command", options=command),
        a_run(tmp_path / "again", 3, solver, what="command", options=command),
        a_run(tmp_path / "bad", 2, solver, what="command", options=bad),
    ]
    good, again, bad_text = rank_processes.carry_out(tmp_path, *runs)
    lines = good.splitlines()
    assert "Log file: " in lines[0]
    assert lines[1].endswith(
        "Effective batch size: 14 (batch size 7 x iter_size 2, each batch split over 2 devices)"
    )
    # The other rank is silent.
    assert good.count("Solving ranked") == good.count("Iteration 4, Testing net") == 1
    assert "exit codes [0, 0]" in good
    assert "Resuming from" in again
    assert "exit codes [0, 0, 0]" in again
    assert "exit codes [1, 1]" in bad_text
    assert "cannot use a GPU here" in bad_text
    assert "Traceback" not in good + again + bad_text


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("end", 0, "Optimization Done."),
        ("stop", 75, "Preempted by SIGTERM"),
        ("kill", 1, "rank 1 of 2 was killed by signal 9"),
    ],
)
def test_our_own_launcher(how: str, code: int, words: str, tmp_path: Path) -> None:
    """What ``--gpu 0,1`` does, with processes on the CPU."""
    solver = write(tmp_path / "run", "snap")
    if how != "end":
        path = Path(solver)
        path.write_text(path.read_text().replace("max_iter: 12", "max_iter: 100000"))
    script = Path(__file__).with_name("launched.py")
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    result = run_program([str(script), solver, how], environment=variables, timeout=200)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_are_one(tmp_path: Path) -> None:
    weights: list[Any] = []
    for flag in ("0", "0,1"):
        solver = write(tmp_path / "run", f"gpu{len(weights)}")
        assert main(["train", "--solver", solver, "--gpu", flag]) == 0
        model = tmp_path / "run" / f"gpu{len(weights)}_iter_12.caffemodel"
        weights.append(load_weights(model))
    for ours, theirs in zip(*(w.layers for w in weights), strict=True):
        for a, b in zip(ours.blobs, theirs.blobs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK"])
def test_an_environment_that_torchrun_did_not_make(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(SolverError, match=f"environment variable {name} is 'x', a number was"):
        is_rank() if name == "WORLD_SIZE" else local_rank()
