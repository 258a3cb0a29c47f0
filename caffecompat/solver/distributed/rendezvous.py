"""Rendezvous of the ranks, and the detection of ranks that do not respond."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from caffecompat.errors import SolverError, first_line

# Seconds between two lines about missing ranks, and between two queries of the store.
REPORT_INTERVAL = 10.0
_POLL_INTERVAL = 0.1
# How long the end of a rank waits for a query that does not return.
_LAST_QUERY = 10.0


def _report(rank: int, text: str) -> None:
    """Prints a line on standard error, since only the first rank has a log."""
    print(f"caffecompat: rank {rank}: {text}", file=sys.stderr, flush=True)  # noqa: T201


@dataclass(frozen=True)
class Attempt:
    """One start of the ranks of a run; torchrun starts them again after a failure.

    Attributes:
        number: random; another one for each attempt, the same on all of its ranks.
        store: of this attempt; its keys are not those of earlier ones.
        run_store: of the run, which torchrun keeps as long as its own process on the first machine.
    """

    number: str
    store: dist.Store
    run_store: dist.Store

    def kept(self, key: str, value: str) -> str | None:
        """The value that an earlier attempt has kept under ``key``.

        None if there is none; ``value`` is then kept for the attempts that follow.
        """
        own = json.dumps([self.number, value])
        number, found = json.loads(self.run_store.compare_set(f"kept/{key}", "", own))
        return None if number == self.number else str(found)


class Rendezvous:
    """Brings all ranks together at a store, on the machine of rank 0 or of the launcher.

    The store may be older than the ranks: where torchrun starts them again it holds the keys of
    earlier attempts, and the restart counters in the environment can differ from machine to
    machine. So rank 0 draws a number for its attempt, and publishes who has joined it; a rank that
    has joined the attempt of an earlier rank 0 is not among those, and waits for the next number.

    Args:
        rank, world_size: of this process.
        limit: seconds after which a missing rank ends the training.

    Raises:
        SolverError: MASTER_ADDR or MASTER_PORT is not set.
    """

    def __init__(self, rank: int, world_size: int, limit: float) -> None:
        self._rank = rank
        self._world_size = world_size
        self._limit = limit
        self._started = time.monotonic()
        self._reported = self._started
        # Of the attempt that this process has joined, and of this process.
        self._number = ""
        self._token = secrets.token_hex(8)
        try:
            self._host, self._port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        except (KeyError, ValueError) as error:
            raise SolverError(
                "the ranks cannot reach each other: the environment variables MASTER_ADDR and "
                "MASTER_PORT say where rank 0 is; torchrun sets them for each of its processes"
            ) from error

    def wait_for_all(self) -> Attempt:
        """Waits until all ranks have joined.

        Raises:
            SolverError: a rank is missing for longer than the limit.
        """
        run_store = dist.PrefixStore("caffecompat", self._connect())
        if self._rank == 0:
            self._join(run_store, secrets.token_hex(8))
            run_store.set("attempt", self._number)
        while not self._is_complete(run_store):
            self._report_wait(self._missing(run_store))
            time.sleep(_POLL_INTERVAL)
        return Attempt(self._number, dist.PrefixStore(self._number, run_store), run_store)

    def _join(self, run_store: dist.Store, number: str) -> None:
        self._number = number
        run_store.set(f"{number}/here/{self._rank}", self._token)

    def _is_complete(self, run_store: dist.Store) -> bool:
        """Whether rank 0 has published the newest attempt, with this process in it."""
        if self._rank != 0 and run_store.check(["attempt"]):
            number = run_store.get("attempt").decode()
            if number != self._number:
                self._join(run_store, number)
        here = [f"{self._number}/here/{rank}" for rank in range(self._world_size)]
        members = f"{self._number}/members"
        if self._rank == 0 and run_store.check(here):
            run_store.set(members, json.dumps([run_store.get(key).decode() for key in here]))
        if not run_store.check([members]):
            return False
        return bool(json.loads(run_store.get(members))[self._rank] == self._token)

    def _missing(self, run_store: dist.Store) -> str:
        ranks = [
            rank
            for rank in range(self._world_size)
            if rank != self._rank and not run_store.check([f"{self._number}/here/{rank}"])
        ]
        # An attempt that is complete without this process is an earlier one.
        names = ", ".join(map(str, ranks or [0]))
        return f"waiting for rank {names} of {self._world_size}"

    def _connect(self) -> dist.Store:
        """The store, opened in a thread, since a connection attempt cannot be interrupted."""
        while unknown := self._unknown_host():
            self._report_wait(unknown)
            time.sleep(_POLL_INTERVAL)
        found: list[Any] = []
        thread = threading.Thread(target=self._open, args=(found,), daemon=True)
        thread.start()
        while thread.is_alive() and not found:
            thread.join(_POLL_INTERVAL)
            if thread.is_alive():
                where = f"{self._host}:{self._port}"
                self._report_wait(
                    f"no answer yet from {where}, where rank 0 or its launcher should be"
                )
        if isinstance(found[0], BaseException):
            raise SolverError(
                f"the ranks cannot reach each other: {self._host}:{self._port}: "
                f"{first_line(found[0])}"
            )
        store: dist.Store = found[0]
        return store

    def _open(self, found: list[Any]) -> None:
        # torchrun and our launcher host a store already.
        hosts = self._rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            found.append(
                dist.TCPStore(
                    self._host,
                    self._port,
                    self._world_size,
                    hosts,
                    timedelta(seconds=2 * self._limit + 60),
                    wait_for_workers=False,
                    multi_tenant=True,
                )
            )
        except (RuntimeError, ValueError) as error:
            found.append(error)

    def _unknown_host(self) -> str:
        """A sentence if the host name of rank 0 cannot be resolved, else an empty string."""
        try:
            socket.getaddrinfo(self._host, self._port)
        except OSError as error:
            return f"the host {self._host!r} of rank 0 is not known here ({error.strerror})"
        return ""

    def _report_wait(self, text: str) -> None:
        """Reports ``text``, the reason of the wait, every ``REPORT_INTERVAL`` seconds.

        Raises:
            SolverError: the wait exceeds the limit.
        """
        now = time.monotonic()
        waited = now - self._started
        if waited >= self._limit:
            raise SolverError(
                f"rank {self._rank} of {self._world_size} gives up after {waited:.0f} s "
                f"(--rank-timeout): {text}"
            )
        if now - self._reported >= REPORT_INTERVAL:
            self._reported = now
            _report(self._rank, f"{text} ({waited:.0f} s of {self._limit:.0f})")


class LivenessMonitor:
    """Detects a rank that does not respond although its process exists, e.g. a suspended one.

    The ranks form a ring; each increments its counter in the store and reads that of the next rank.

    Args:
        rank, world_size: of this process.
        store: of this attempt of the ranks.
        limit: seconds without a response that end the training.
        terminate: called with a sentence then, from another thread.
        next_has_finished: whether the next rank has finished.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        store: dist.Store,
        limit: float,
        terminate: Callable[[str], None],
        next_has_finished: Callable[[], bool],
    ) -> None:
        self._rank = rank
        self._next = (rank + 1) % world_size
        self._world_size = world_size
        self._store = store
        self._limit = limit
        self._terminate = terminate
        self._next_has_finished = next_has_finished
        self._stopped = threading.Event()
        self._last_response = time.monotonic()
        self._last_query = self._last_response
        self._period = min(REPORT_INTERVAL, limit) / 5
        self._threads = [
            threading.Thread(target=work, name="caffecompat-liveness", daemon=True)
            for work in (self._increment, self._check)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the monitoring.

        A thread that is inside the store when the interpreter ends would abort the process.
        """
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=_LAST_QUERY)

    def _increment(self) -> None:
        """Increments the counter of this rank and reads that of the next one, again and again."""
        count, last = 0, b""
        while not self._stopped.is_set():
            count += 1
            try:
                self._store.set(f"alive/{self._rank}", str(count))
                key = f"alive/{self._next}"
                seen = self._store.get(key) if self._store.check([key]) else b""
            except RuntimeError:
                return  # the process of the store has ended; FailureDetector reports that
            self._last_query = time.monotonic()
            if seen != last:
                last, self._last_response = seen, self._last_query
            self._stopped.wait(self._period)

    def _check(self) -> None:
        reported = time.monotonic()
        while not self._stopped.wait(self._period):
            now = time.monotonic()
            if self._next_has_finished():
                return
            store_idle, idle = now - self._last_query, now - self._last_response
            if max(store_idle, idle) < REPORT_INTERVAL:
                continue
            if store_idle >= REPORT_INTERVAL:
                text = f"rank 0 of {self._world_size}, or what has started it, has not answered"
                idle = store_idle
            else:
                text = f"rank {self._next} of {self._world_size} has not been heard from"
            text += f" for {idle:.0f} s; it is suspended, or its machine is gone"
            if idle >= self._limit:
                self._terminate(f"{text} (--rank-timeout {self._limit:.0f})")
                return
            if now - reported >= REPORT_INTERVAL:
                reported = now
                _report(self._rank, f"{text} (waiting until {self._limit:.0f} s)")
