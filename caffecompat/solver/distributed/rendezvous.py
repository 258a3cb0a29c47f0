"""How the ranks of a training find each other, and what is said while one is awaited."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from caffecompat.errors import SolverError, first_line

# Seconds between two lines about who is missing, and between two looks at who has come.
EVERY = 10.0
_LOOK = 0.1


def say(rank: int, text: str) -> None:
    """A line on standard error; ranks other than the first have no log."""
    print(f"caffecompat: rank {rank}: {text}", file=sys.stderr, flush=True)  # noqa: T201


class Meeting:
    """The place where ranks meet: a store on the machine of rank 0, or of who has started them.

    Args:
        rank, count: which of how many.
        limit: seconds after which a rank that is missing ends the training.

    Raises:
        SolverError: the place is not stated.
    """

    def __init__(self, rank: int, count: int, limit: float) -> None:
        self._rank = rank
        self._count = count
        self._limit = limit
        self._started = time.monotonic()
        self._said = self._started
        try:
            self._host, self._port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        except (KeyError, ValueError) as error:
            raise SolverError(
                "the ranks cannot reach each other: the environment variables MASTER_ADDR and "
                "MASTER_PORT say where rank 0 is; torchrun sets them for each of its processes"
            ) from error

    def gather(self) -> dist.Store:
        """Waits until all ranks are there.

        Returns:
            A store that all of them use.

        Raises:
            SolverError: one is missing for longer than the limit.
        """
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store: dist.Store = dist.PrefixStore(f"caffecompat/{attempt}", self._connect())
        store.set(f"here/{self._rank}", f"process {os.getpid()} on {socket.gethostname()}")
        while missing := [r for r in range(self._count) if not store.check([f"here/{r}"])]:
            names = ", ".join(map(str, missing))
            self._wait_on(f"waiting for rank {names} of {self._count}")
            time.sleep(_LOOK)
        return store

    def _connect(self) -> dist.Store:
        """The store; in a thread, since what it does with a silent port cannot be interrupted."""
        while unknown := self._unknown_host():
            self._wait_on(unknown)
            time.sleep(_LOOK)
        found: list[Any] = []
        thread = threading.Thread(target=self._open, args=(found,), daemon=True)
        thread.start()
        while thread.is_alive() and not found:
            thread.join(_LOOK)
            if thread.is_alive():
                where = f"{self._host}:{self._port}"
                self._wait_on(f"no answer yet from {where}, where rank 0 or its launcher should be")
        if isinstance(found[0], BaseException):
            raise SolverError(
                f"the ranks cannot reach each other: {self._host}:{self._port}: "
                f"{first_line(found[0])}"
            )
        store: dist.Store = found[0]
        return store

    def _open(self, found: list[Any]) -> None:
        # torchrun and our own launcher have a store already.
        hosts = self._rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            found.append(
                dist.TCPStore(
                    self._host,
                    self._port,
                    self._count,
                    hosts,
                    timedelta(seconds=2 * self._limit + 60),
                    wait_for_workers=False,
                    multi_tenant=True,
                )
            )
        except (RuntimeError, ValueError) as error:
            found.append(error)

    def _unknown_host(self) -> str:
        """A sentence where the name of rank 0's machine has no address here, else nothing."""
        try:
            socket.getaddrinfo(self._host, self._port)
        except OSError as error:
            return f"the host {self._host!r} of rank 0 is not known here ({error.strerror})"
        return ""

    def _wait_on(self, text: str) -> None:
        """Says ``text`` from time to time.

        Raises:
            SolverError: it has been true for too long.
        """
        now = time.monotonic()
        waited = now - self._started
        if waited >= self._limit:
            raise SolverError(
                f"rank {self._rank} of {self._count} gives up after {waited:.0f} s "
                f"(--rank-timeout): {text}"
            )
        if now - self._said >= EVERY:
            self._said = now
            say(self._rank, f"{text} ({waited:.0f} s of {self._limit:.0f})")


class Presence:
    """Notices a rank that has stopped without having died, as one that is suspended.

    The ranks stand in a ring; each counts up in the store and looks at the count of the next one.

    Args:
        rank, count: which of how many.
        store: see :meth:`Meeting.gather`.
        limit: seconds of silence that end the training.
        give_up: called with a sentence then, from another thread.
        over: whether the next rank has left.
    """

    def __init__(
        self,
        rank: int,
        count: int,
        store: dist.Store,
        limit: float,
        give_up: Callable[[str], None],
        over: Callable[[], bool],
    ) -> None:
        self._rank = rank
        self._next = (rank + 1) % count
        self._count = count
        self._store = store
        self._limit = limit
        self._give_up = give_up
        self._over = over
        self._ended = threading.Event()
        self._heard = time.monotonic()
        self._round = self._heard
        self._period = min(EVERY, limit) / 5
        for work in (self._beat, self._listen):
            threading.Thread(target=work, name="caffecompat-presence", daemon=True).start()

    def leave(self) -> None:
        self._ended.set()

    def _beat(self) -> None:
        """Shows that this rank lives, and looks whether the next one does."""
        count, last = 0, b""
        while not self._ended.is_set():
            count += 1
            try:
                self._store.set(f"alive/{self._rank}", str(count))
                key = f"alive/{self._next}"
                seen = self._store.get(key) if self._store.check([key]) else b""
            except RuntimeError:
                return  # the store has gone with its process, of which the alarm hears
            self._round = time.monotonic()
            if seen != last:
                last, self._heard = seen, self._round
            self._ended.wait(self._period)

    def _listen(self) -> None:
        said = time.monotonic()
        while not self._ended.wait(self._period):
            now = time.monotonic()
            if self._over():
                return
            store_silent, silent = now - self._round, now - self._heard
            if max(store_silent, silent) < EVERY:
                continue
            if store_silent >= EVERY:
                text = f"rank 0 of {self._count}, or what has started it, has not answered"
                silent = store_silent
            else:
                text = f"rank {self._next} of {self._count} has not been heard from"
            text += f" for {silent:.0f} s; it is suspended, or its machine is gone"
            if silent >= self._limit:
                self._give_up(f"{text} (--rank-timeout {self._limit:.0f})")
                return
            if now - said >= EVERY:
                said = now
                say(self._rank, f"{text} (waiting until {self._limit:.0f} s)")
