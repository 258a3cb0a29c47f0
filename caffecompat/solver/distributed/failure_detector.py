"""How ranks notice at once that one of them has failed or died.

The ranks stand in a ring. A thread of each waits for the last word of the next one: good-bye, or
why it failed. A rank that dies without a word closes its connection, which ends the waiting too.
Whoever hears bad news passes it on and ends its process, even where its main thread waits on a
device for a collective operation that will never be complete.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist

_BYE, _FAILED = 0, 1
_LENGTH = 2048
_FAILURE = 1


class FailureDetector:
    """The place of one rank in the ring; making it is a collective operation.

    Args:
        rank, count: which of how many.
        patience: longer than any training.
    """

    def __init__(self, rank: int, count: int, patience: timedelta) -> None:
        self._rank = rank
        self._count = count
        self._group = dist.new_group(backend="gloo", timeout=patience)
        self._next = (rank + 1) % count
        self._before = (rank - 1) % count
        self._leaving = False
        self._thread = threading.Thread(target=self._listen, name="caffecompat-alarm", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Says good-bye, and waits until the next rank does."""
        self._say(_BYE, "")
        self._thread.join()

    def raise_for(self, error: BaseException) -> None:
        """Tells the others why this rank ends."""
        self._leaving = True
        text = str(error) or type(error).__name__
        self._say(_FAILED, f"rank {self._rank} of {self._count} failed: {text}")
        # Its word goes round; what was sent may be lost if this process ends sooner.
        self._thread.join(timeout=5)

    def give_up(self, text: str) -> None:
        """Ends this rank and, by telling them, the others."""
        if not self._leaving:
            self._end(text)

    @property
    def next_has_left(self) -> bool:
        """Whether the next rank has said its last word."""
        return not self._thread.is_alive()

    def wait_for_verdict(self) -> None:
        """Gives the thread time to learn why a connection broke; it ends the process then."""
        if not self._leaving:
            self._thread.join(timeout=10)

    def _listen(self) -> None:
        message = torch.zeros(_LENGTH, dtype=torch.uint8)
        try:
            dist.recv(message, src=self._next, group=self._group)
        except RuntimeError:
            text = f"rank {self._next} of {self._count} has died without a word (killed, out of "
            text += "memory, or its machine is gone)"
        else:
            if int(message[0]) == _BYE:
                return
            text = bytes(message[1:].tolist()).rstrip(b"\0").decode(errors="replace")
        if not self._leaving:
            self._end(text)

    def _end(self, text: str) -> None:
        for line in text.splitlines():
            print(f"caffecompat: error: rank {self._rank}: {line}", file=sys.stderr)  # noqa: T201
        sentence = "the training ends here too; --snapshot auto goes on from the last snapshot"
        print(f"caffecompat: error: rank {self._rank}: {sentence}", file=sys.stderr)  # noqa: T201
        sys.stderr.flush()
        self._leaving = True
        self._say(_FAILED, text)
        # Time for the kernel to deliver it: a process that ends may reset its connections.
        time.sleep(0.5)
        os._exit(_FAILURE)

    def _say(self, code: int, text: str) -> None:
        data = bytes([code]) + text.encode()[: _LENGTH - 1]
        message = torch.tensor(list(data.ljust(_LENGTH, b"\0")), dtype=torch.uint8)
        with contextlib.suppress(RuntimeError):
            dist.send(message, dst=self._before, group=self._group)
