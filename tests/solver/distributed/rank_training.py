"""Trains with several processes on this machine, as many times as requested.

    python rank_training.py

It reads paths of JSON files from standard input and answers each with a line when its runs are
done. Each run is {"ranks", "solver", "steps", "snapshot", "out", "what", "options", "bucket"};
rank 0 writes what it has seen to "out" (.npz). "what" is "train", "command" for the command line
with "options", or how one rank ends: "die", "fail", "signal"; with "late" the others' trainings
see it after their failure detectors, whose messages are late. "bucket" is a size for gradients.
"attempts" has the ranks started again as torchrun does, each time with the "counts" of restarts
that its agents have passed to the ranks; rank "killed" is killed once "after" is there. The ranks
are forks of this process, which has loaded everything but never computed, so that they start at
once. What the ranks print and their exit codes go to "out" with the suffix .txt.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from caffecompat.cli.main import main as command_line
from caffecompat.errors import CaffeError
from caffecompat.net import Net
from caffecompat.solver import Action, Callback, SignalActions, Solver, Training
from caffecompat.solver.distributed import gradient_buckets, rendezvous
from caffecompat.solver.distributed.failure_detector import FailureDetector
from caffecompat.solver.distributed.process_group import ProcessGroup, join_ranks
from tests.solver import own_layers

# Registers layer types that the nets of some runs have.
assert own_layers


class Displayed(Callback):
    """Keeps what is displayed."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def displayed(self, solver: Training, outputs: dict[str, list[float]]) -> None:
        self.rows.append([solver.loss, *(value for name in outputs for value in outputs[name])])


def train(run: dict[str, Any], ranks: ProcessGroup) -> None:
    gradient_buckets.BUCKET_BYTES = run.get("bucket", gradient_buckets.BUCKET_BYTES)
    solver = Solver(run["solver"], snapshot=run["snapshot"], process_group=ranks, **run["options"])
    feeds = [ranks.gather([feed.numpy() for feed in solver.net.feeds(i)]) for i in (0, 3)]
    shown = Displayed()
    solver.callbacks.append(shown)
    if run["what"] == "die" and ranks.rank == ranks.world_size - 1:
        solver.requested = die
    if run["what"] == "fail" and ranks.rank == ranks.world_size - 1:
        solver.requested = fail
    if run["what"] == "suspend" and ranks.rank == ranks.world_size - 1:
        solver.requested = suspend
    if run["what"] == "signal":
        send_signal(solver, ranks)
        return
    solver.step(run["steps"])
    if ranks.first:
        values = {f"{e.layer}/{e.index}": e.tensor.detach().numpy() for e in solver.net.learnable}
        for i, parts in enumerate(feeds):
            for j, tops in enumerate(zip(*parts, strict=True)):
                values[f"feed/{i}/{j}"] = np.concatenate(tops)
        values["shown"] = np.array(shown.rows)
        np.savez(run["out"], **values)  # type: ignore[arg-type]
    solver.close()


def die() -> Action:
    os.kill(os.getpid(), signal.SIGKILL)
    return Action.NONE


def suspend() -> Action:
    """Stops this process, which a child of it lets go on after the others have given up."""
    pid = os.getpid()
    if os.fork() == 0:
        time.sleep(12)
        os.kill(pid, signal.SIGCONT)
        os._exit(0)
    os.kill(pid, signal.SIGSTOP)
    return Action.NONE


def fail() -> Action:
    raise CaffeError("this rank does not like it any more")


def send_signal(solver: Solver, ranks: ProcessGroup) -> None:
    """One rank alone gets SIGTERM; all must stop at the same iteration, with one snapshot."""
    with SignalActions(Action.STOP, Action.SNAPSHOT) as signals:
        solver.requested = signals.requested
        if ranks.rank == ranks.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        solver.solve()
    sys.stderr.write(f"stopped at {solver.iter}, preempted {solver.preempted}\n")


def be_rank(run: dict[str, Any], port: int, rank: int) -> int:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(run["ranks"]))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    output = os.open(f"{run['out']}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 2)
    if run["what"] == "command":
        return command_line(run["options"])
    if run.get("late"):
        notice_late()
    try:
        rendezvous.REPORT_INTERVAL = run.get("every", rendezvous.REPORT_INTERVAL)
        with join_ranks(torch.device("cpu"), run.get("limit", 600.0)) as ranks:
            train(run, ranks)
    except CaffeError as error:
        sys.stderr.write(f"caffecompat: error: {error}\n")
        return 1
    return 0


def notice_late() -> None:
    """The training sees a broken connection after the detector, which sends its message late."""
    wait, send = FailureDetector.wait_for_report, FailureDetector._send

    def wait_for_report(detector: FailureDetector) -> None:
        while not detector._leaving:
            time.sleep(0.001)
        wait(detector)

    def send_late(detector: FailureDetector, code: int, text: str) -> None:
        if threading.current_thread() is detector._thread:
            time.sleep(0.3)
        send(detector, code, text)

    setattr(FailureDetector, "wait_for_report", wait_for_report)  # noqa: B010
    setattr(FailureDetector, "_send", send_late)  # noqa: B010


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    for line in sys.stdin:
        runs = json.loads(Path(line.rstrip("\n")).read_text())
        # Imports the modules of the layers.
        Net(Path(runs[0]["solver"]).with_name("net.prototxt"), phase="train", shapes_only=True)
        carry_out(runs)
        sys.stdout.write("done\n")
        sys.stdout.flush()


def be_torchruns_rank(run: dict[str, Any], attempt: dict[str, Any], port: int, rank: int) -> int:
    """A rank that finds what torchrun sets."""
    os.environ.update(TORCHELASTIC_RUN_ID="test", TORCHELASTIC_USE_AGENT_STORE="True")
    os.environ.update(TORCHELASTIC_RESTART_COUNT=str(attempt["counts"][rank]))
    if rank == attempt.get("killed"):
        threading.Thread(target=die_after, args=(Path(attempt["after"]),), daemon=True).start()
    return be_rank(run, port, rank)


def die_after(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)
    die()


def carry_out(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        if "attempts" not in run:
            port = free_port()
            start(run, partial(be_rank, run, port))
            continue
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        for attempt in run["attempts"]:
            start(run, partial(be_torchruns_rank, run, attempt, store.port))


def start(run: dict[str, Any], work: Callable[[int], int]) -> None:
    """Forks the ranks, waits for their ends and writes down their exit codes."""
    children = []
    for rank in range(run["ranks"]):
        child = os.fork()
        if child == 0:
            code = 99
            try:
                code = work(rank)
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    with open(f"{run['out']}.txt", "a") as file:
        file.write(f"exit codes {codes}\n")


if __name__ == "__main__":
    main()
