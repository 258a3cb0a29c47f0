"""How many threads decode and transform images."""

from __future__ import annotations

import os

_MOST = 16


def usable_cores() -> int:
    """One thread per core that this rank may use, at most 16."""
    # Containers and job schedulers may allow fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    # torchrun sets the number of ranks on this machine.
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    cores_of_rank = cores // int(ranks) if ranks.isdigit() and int(ranks) else cores
    return max(1, min(cores_of_rank, _MOST))
