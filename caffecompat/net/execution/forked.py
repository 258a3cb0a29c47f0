"""Passes in processes that are forked from one with a net, as ``multiprocessing`` does on Linux."""

from __future__ import annotations

import os
from functools import cache, partial

import torch


@cache
def compute_in_one_thread_when_forked() -> None:
    """Sets the threads of torch to one in all processes that are forked from this one later.

    A fork has the calling thread only. An operator that shares its work with the threads that
    torch (by OpenMP) had started before would wait for them forever. torch's own DataLoader does
    this in its processes, too.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
