"""The launcher: starts the ranks of a training on this machine, as torchrun does on several."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any, TypeVar

import torch.distributed as dist
import torch.multiprocessing as mp

from caffecompat.errors import SolverError
from caffecompat.reporting.glog import LOGGER

T = TypeVar("T")

# When one rank fails, the others end by themselves; after these seconds they are killed.
_KILL_AFTER = 60.0
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


def launch(work: Callable[[T], int], argument: T, count: int, preempted: int) -> int:
    """Runs ``work(argument)`` in ``count`` new processes, which ``join_ranks`` can join.

    Signals are forwarded to all of them. When one fails, all end.

    Args:
        work: returns an exit code; must be importable by name.
        argument: must be picklable.
        count: how many processes, one per GPU.
        preempted: the exit code of a rank that was preempted and should be started again.

    Returns:
        0 if all ranks return 0, ``preempted`` if one returns that and none fails, else 1.

    Raises:
        SolverError: a rank was killed.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = mp.get_context("spawn")
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    processes = [
        context.Process(target=_run_rank, args=(work, argument, rank, count, environment))
        for rank in range(count)
    ]
    previous = _forward_signals(processes)
    try:
        with _signals_blocked():
            for process in processes:
                process.start()
        return _exit_code(_wait_for_exit_codes(processes), preempted)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for process in processes:
            if process.is_alive():
                process.kill()


def _run_rank(
    work: Callable[[T], int], argument: T, rank: int, count: int, environment: dict[str, str]
) -> None:
    os.environ.update(environment, TORCHELASTIC_USE_AGENT_STORE="True")
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
    if hasattr(os, "setpgrp"):
        # A terminal sends Ctrl-C to a whole process group; here the parent forwards it, once.
        os.setpgrp()
    threading.Thread(target=_follow_parent, daemon=True).start()
    sys.exit(work(argument))


def _follow_parent() -> None:
    """Sends this rank SIGTERM, which makes a snapshot, if its parent process ends."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Context in which new processes start with signals blocked, until they unblock them.

    They load their libraries first, which takes seconds; a signal would end them before that.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = [getattr(signal, name) for name in _FORWARDED]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forward_signals(processes: Sequence[Any]) -> dict[int, Any]:
    """Forwards signals to the processes; returns the handlers that were replaced."""

    def forward(number: int, frame: object) -> None:
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for name in _FORWARDED:
            number = getattr(signal, name, None)
            if number is not None:
                previous[int(number)] = signal.signal(number, forward)
    return previous


def _wait_for_exit_codes(processes: Sequence[Any]) -> list[int]:
    """The exit codes of all processes, once all have ended."""
    deadline: float | None = None
    while running := [process for process in processes if process.exitcode is None]:
        if deadline is None and any(process.exitcode for process in processes):
            deadline = time.monotonic() + _KILL_AFTER
        if deadline is not None and time.monotonic() > deadline:
            LOGGER.error(f"{len(running)} rank(s) do not end by themselves and are killed")
            for process in running:
                process.kill()
        wait([process.sentinel for process in running], timeout=1.0)
    return [int(process.exitcode) for process in processes]


def _exit_code(codes: Sequence[int], preempted: int) -> int:
    for rank, code in enumerate(codes):
        if code < 0:
            raise SolverError(
                f"rank {rank} of {len(codes)} was killed by signal {-code}; --snapshot auto goes "
                "on from the last snapshot"
            )
    if any(code not in (0, preempted) for code in codes):
        return 1
    return preempted if preempted in codes else 0
