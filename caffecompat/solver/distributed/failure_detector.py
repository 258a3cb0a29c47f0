"""Failure detection: every rank notices at once that another rank has failed or died.

The ranks form a ring. In each rank a thread waits for the final message of the next rank: that it
has finished, or why it failed. A rank that dies without a message closes its connection, which
ends the wait too. A rank that learns of a failure forwards it and ends its process, even while its
main thread waits on a device for a collective operation that will never complete.
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

_FINISHED, _FAILED = 0, 1
# Bytes of a message; its first byte is one of the codes above.
_LENGTH = 2048
_EXIT_CODE = 1


class FailureDetector:
    """Detects that a rank has failed; creating one is a collective operation of all ranks.

    Args:
        rank, world_size: of this process.
        timeout: of the wait for the final message; longer than any training.
    """

    def __init__(self, rank: int, world_size: int, timeout: timedelta) -> None:
        self._rank = rank
        self._world_size = world_size
        self._group = dist.new_group(backend="gloo", timeout=timeout)
        self._next = (rank + 1) % world_size
        self._previous = (rank - 1) % world_size
        self._leaving = False
        name = "caffecompat-failure-detector"
        self._thread = threading.Thread(target=self._wait_for_next, name=name, daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """Reports that this rank has finished, and waits until the next rank has too."""
        self._send(_FINISHED, "")
        self._thread.join()

    def report(self, error: BaseException) -> None:
        """Sends the other ranks the reason for which this rank fails."""
        self._leaving = True
        text = str(error) or type(error).__name__
        self._send(_FAILED, f"rank {self._rank} of {self._world_size} failed: {text}")
        # The message passes round the ring; it may be lost if this process ends sooner.
        self._thread.join(timeout=5)

    def terminate(self, text: str) -> None:
        """Ends this process and, by a message with ``text``, the other ranks."""
        if not self._leaving:
            self._exit(text)

    @property
    def next_has_finished(self) -> bool:
        """Whether the final message of the next rank has arrived."""
        return not self._thread.is_alive()

    def wait_for_report(self) -> None:
        """Waits up to 10 s for the cause of a broken connection, which ends the process.

        Also while that thread is ending the process: a failure that the caller would report then
        could reach the other ranks before the cause.
        """
        self._thread.join(timeout=10)

    def _wait_for_next(self) -> None:
        message = torch.zeros(_LENGTH, dtype=torch.uint8)
        try:
            dist.recv(message, src=self._next, group=self._group)
        except RuntimeError:
            text = f"rank {self._next} of {self._world_size} has died without a message (killed, "
            text += "out of memory, or its machine is gone)"
        else:
            if int(message[0]) == _FINISHED:
                return
            text = bytes(message[1:].tolist()).rstrip(b"\0").decode(errors="replace")
        if not self._leaving:
            self._exit(text)

    def _exit(self, text: str) -> None:
        for line in text.splitlines():
            print(f"caffecompat: error: rank {self._rank}: {line}", file=sys.stderr)  # noqa: T201
        sentence = "the training ends here too; --snapshot auto goes on from the last snapshot"
        print(f"caffecompat: error: rank {self._rank}: {sentence}", file=sys.stderr)  # noqa: T201
        sys.stderr.flush()
        self._leaving = True
        self._send(_FAILED, text)
        # Gives the kernel time to deliver it: a process that ends may reset its connections.
        time.sleep(0.5)
        os._exit(_EXIT_CODE)

    def _send(self, code: int, text: str) -> None:
        data = bytes([code]) + text.encode()[: _LENGTH - 1]
        message = torch.tensor(list(data.ljust(_LENGTH, b"\0")), dtype=torch.uint8)
        with contextlib.suppress(RuntimeError):
            dist.send(message, dst=self._previous, group=self._group)
