"""The settings of a pycaffe process: device, seed, and the counters of its solvers."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import torch

from caffecompat.errors import NetError
from caffecompat.layers._counter_rng import derive_seed
from caffecompat.net.execution.device import usable_device
from caffecompat.pycaffe.errors import ArgumentError


@dataclass
class _Mode:
    """What the functions below set, for the whole process as in pycaffe."""

    gpu: bool = False
    device: int = 0
    cpu_only: bool = False
    seed: int | None = None
    nets: int = 0
    solver_count: int = 1
    solver_rank: int = 0
    multiprocess: bool = False


_mode = _Mode()


def set_mode_cpu() -> None:
    """Nets built from now on run on the CPU, as at the start."""
    _mode.gpu = False


def set_mode_gpu() -> None:
    """Nets built from now on run on the GPU that :func:`set_device` has chosen, at first 0.

    Raises:
        NetError: there is none.
    """
    if not _mode.cpu_only:
        try:
            usable_device(f"cuda:{_mode.device}")
        except NetError as error:
            raise NetError(
                f"set_mode_gpu(): {error}; for the CPU write caffe.set_mode_cpu() instead, or run "
                "'python -m caffecompat.run --cpu script.py'"
            ) from error
    _mode.gpu = True


def set_device(device: int) -> None:
    """Chooses the GPU for :func:`set_mode_gpu`.

    Raises:
        NetError: there is no such GPU.
    """
    if device < 0:
        raise ArgumentError(f"set_device({device}): GPUs are numbered from 0")
    if _mode.gpu and not _mode.cpu_only:
        usable_device(f"cuda:{device}")
    _mode.device = device


def stay_on_cpu() -> None:
    """From now on :func:`set_mode_gpu` has no effect, for scripts on a machine without GPU."""
    _mode.cpu_only = True


def current_device() -> torch.device:
    """The device for a net that is built now."""
    if _mode.gpu and not _mode.cpu_only:
        return usable_device(f"cuda:{_mode.device}")
    return torch.device("cpu")


def set_random_seed(seed: int) -> None:
    """Makes everything random in nets and solvers built from now on repeatable."""
    _mode.seed = seed
    _mode.nets = 0


def next_seed() -> int:
    """The seed for the next net or solver; without :func:`set_random_seed` a random one."""
    if _mode.seed is None:
        return secrets.randbelow(2**31)
    _mode.nets += 1
    return derive_seed(_mode.seed, "pycaffe", _mode.nets) % 2**31


def solver_count() -> int:
    """The number set by :func:`set_solver_count`, 1 at first."""
    return _mode.solver_count


def set_solver_count(count: int) -> None:
    """Stores the number of processes that train together; see :class:`NCCL`."""
    _mode.solver_count = count


def solver_rank() -> int:
    """The number set by :func:`set_solver_rank`, 0 at first."""
    return _mode.solver_rank


def set_solver_rank(rank: int) -> None:
    """Stores the number of this process, from 0; see :class:`NCCL`."""
    _mode.solver_rank = rank


def set_multiprocess(multiprocess: bool) -> None:
    """Stores whether several processes train together; see :class:`NCCL`."""
    _mode.multiprocess = multiprocess
