"""Starting the ranks of a training on this machine, as torchrun does on many."""

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

# Ranks end by themselves when one fails; this is for those that cannot any more.
_GRACE = 60.0
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


def launch(work: Callable[[T], int], argument: T, count: int, preempted: int) -> int:
    """Runs ``work(argument)`` in ``count`` new processes that can be joined as ranks.

    Signals go to all of them. When one fails, all end.

    Args:
        work: gives an exit code; must be importable by name.
        argument: must be picklable.
        count: how many processes, one per GPU.
        preempted: the exit code of a rank that was stopped and wants to be started again.

    Returns:
        0 where all ranks give it, ``preempted`` where one gives that and none fails, else 1.

    Raises:
        SolverError: a rank was killed.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = mp.get_context("spawn")
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    processes = [
        context.Process(target=_be_rank, args=(work, argument, rank, count, environment))
        for rank in range(count)
    ]
    previous = _forward_signals(processes)
    try:
        with _held_back():
            for process in processes:
                process.start()
        return _verdict(_codes(processes), preempted)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for process in processes:
            if process.is_alive():
                process.kill()


def _be_rank(
    work: Callable[[T], int], argument: T, rank: int, count: int, environment: dict[str, str]
) -> None:
    os.environ.update(environment, TORCHELASTIC_USE_AGENT_STORE="True")
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
    if hasattr(os, "setpgrp"):
        # A terminal sends Ctrl-C to a whole group; it comes from the parent, once.
        os.setpgrp()
    threading.Thread(target=_follow_parent, daemon=True).start()
    sys.exit(work(argument))


def _follow_parent() -> None:
    """Ends this rank with a snapshot where the parent is killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _held_back() -> Iterator[None]:
    """Processes started in this context get signals only once they let them through.

    They load their libraries first, which takes seconds; a signal would end them in the meantime.
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
    """Passes signals on to the processes; returns the handlers that did their work before."""

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


def _codes(processes: Sequence[Any]) -> list[int]:
    """The exit codes of all processes, once all have ended."""
    deadline: float | None = None
    while running := [process for process in processes if process.exitcode is None]:
        if deadline is None and any(process.exitcode for process in processes):
            deadline = time.monotonic() + _GRACE
        if deadline is not None and time.monotonic() > deadline:
            LOGGER.error(f"{len(running)} rank(s) do not end by themselves and are killed")
            for process in running:
                process.kill()
        wait([process.sentinel for process in running], timeout=1.0)
    return [int(process.exitcode) for process in processes]


def _verdict(codes: Sequence[int], preempted: int) -> int:
    for rank, code in enumerate(codes):
        if code < 0:
            raise SolverError(
                f"rank {rank} of {len(codes)} was killed by signal {-code}; --snapshot auto goes "
                "on from the last snapshot"
            )
    if any(code not in (0, preempted) for code in codes):
        return 1
    return preempted if preempted in codes else 0
