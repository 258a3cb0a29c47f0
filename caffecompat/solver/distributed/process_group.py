"""The process group of a training: collective operations, and the end of all ranks together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from caffecompat.data.shard import Shard
from caffecompat.errors import SolverError, first_line
from caffecompat.solver.distributed.failure_detector import FailureDetector
from caffecompat.solver.distributed.launcher_watch import follow_launcher
from caffecompat.solver.distributed.rendezvous import Attempt, LivenessMonitor, Rendezvous
from caffecompat.solver.signals import Action

T = TypeVar("T")

# By rising priority: the highest action that a rank requests holds for all.
_BY_PRIORITY = (Action.NONE, Action.SNAPSHOT, Action.STOP, Action.PREEMPT)
# Long enough for a long test or a slow disk of another rank; FailureDetector finds dead ranks.
_COLLECTIVE_TIMEOUT = timedelta(days=30)
# Seconds that a rank may be missing.
RANK_TIMEOUT = 600.0


class ProcessGroup:
    """The processes that train together, as one of them sees them.

    ``ProcessGroup()`` is a single process: its collective operations do nothing, at no cost.
    :func:`join_ranks` gives a group of several.

    Attributes:
        rank, world_size: of this process; rank 0 logs, tests and writes snapshots.
        isolated: whether :meth:`sum` returns the value of this rank alone, without waiting.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, attempt: Attempt | None = None) -> None:
        self.rank = rank
        self.world_size = world_size
        self.isolated = False
        self._attempt = attempt

    @property
    def shard(self) -> Shard:
        """The part of each batch that this rank reads."""
        return Shard(self.rank, self.world_size)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.world_size > 1

    @contextmanager
    def isolate(self) -> Iterator[None]:
        """Context in which :meth:`sum` does not wait for the other ranks."""
        before, self.isolated = self.isolated, True
        try:
            yield
        finally:
            self.isolated = before

    def kept(self, key: str, value: str) -> str | None:
        """What earlier processes of this run have kept under ``key`` before torchrun's restart.

        None in the first start of the ranks, which keeps ``value``, and without torchrun.
        """
        return None if self._attempt is None else self._attempt.kept(key, value)

    def agree(self, action: Action) -> Action:
        """The action of the highest priority that a rank requests, on every rank."""
        if not self.several:
            return action
        priority = torch.tensor(_BY_PRIORITY.index(action))
        self._wait(lambda: dist.all_reduce(priority, dist.ReduceOp.MAX))
        return _BY_PRIORITY[int(priority)]

    def broadcast(self, value: T) -> T:
        """The ``value`` of rank 0, on every rank; must be picklable."""
        if not self.several:
            return value
        box: list[Any] = [value]
        self._wait(lambda: dist.broadcast_object_list(box, src=0, device=torch.device("cpu")))
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on every rank; must be picklable."""
        if not self.several:
            return [value]
        found: list[Any] = [None] * self.world_size
        self._wait(lambda: dist.all_gather_object(found, value))
        return found

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks of a tensor without a gradient, as a new tensor."""
        if not self.several or self.isolated:
            return value
        total = value.detach().clone()
        self._wait(lambda: dist.all_reduce(total))
        return total

    def start_sum(self, value: torch.Tensor) -> Any:
        """Starts to sum ``value`` over all ranks in place; :meth:`finish` takes what it returns."""
        return self._wait(lambda: dist.all_reduce(value, async_op=True))

    def finish(self, work: Any) -> None:
        """Waits for the sum that :meth:`start_sum` started; on a GPU only the device waits."""
        self._wait(work.wait)

    def broadcast_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Gives ``tensors`` the values that they have on rank 0."""
        if not self.several:
            return
        with torch.no_grad():
            for tensor in tensors:
                dense = tensor.detach().contiguous()
                self._wait(lambda dense=dense: dist.broadcast(dense, src=0))
                if dense.data_ptr() != tensor.data_ptr():
                    tensor.copy_(dense)

    def _wait(self, work: Any) -> Any:
        try:
            return work()
        except RuntimeError as error:
            raise self._connection_error(error) from error

    def _connection_error(self, error: RuntimeError) -> SolverError:
        """The error for a broken connection; usually the failure detector reports the cause."""
        return SolverError(
            f"rank {self.rank} of {self.world_size}: lost the other ranks: {first_line(error)}"
        )


class _Joined(ProcessGroup):
    """A process group of several ranks, until its context ends."""

    def __init__(self, attempt: Attempt, limit: float) -> None:
        super().__init__(dist.get_rank(), dist.get_world_size(), attempt)
        self._detector = detector = FailureDetector(self.rank, self.world_size, _COLLECTIVE_TIMEOUT)
        self._monitor = LivenessMonitor(
            self.rank,
            self.world_size,
            attempt.store,
            limit,
            detector.terminate,
            lambda: detector.next_has_finished,
        )

    def _connection_error(self, error: RuntimeError) -> SolverError:
        self._detector.wait_for_report()
        return super()._connection_error(error)

    def __enter__(self) -> _Joined:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._detector.leave()
            self._monitor.stop()
            dist.destroy_process_group()
        else:
            # The group is not destroyed: that could wait forever for the other ranks.
            self._detector.report(error)


def is_rank() -> bool:
    """Whether torchrun or :mod:`.launch` has started this process as one of several ranks.

    A rank that torchrun started alone counts too, since others may join it later.
    """
    return _environment_number("WORLD_SIZE", 1) > 1 or started_by_torchrun()


def local_rank() -> int:
    """The number of this rank among those on its machine, from 0."""
    return _environment_number("LOCAL_RANK", _environment_number("RANK", 0))


def _environment_number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise SolverError(
            f"the environment variable {name} is {text!r}, a number was expected; torchrun sets it "
            "for each of its processes"
        )
    return int(text) if text else default


@contextmanager
def join_ranks(
    device: str | torch.device, limit: float = RANK_TIMEOUT, backend: str | None = None
) -> Iterator[ProcessGroup]:
    """Joins the process group of the ranks that torchrun, or ``--gpu 0,1``, has started.

    When a rank fails or dies inside the context, every rank reports it and ends, whatever it is
    doing. The end of the context waits until all ranks have reached it. When the torchrun that
    started this rank is killed, the rank gets SIGTERM.

    Args:
        device: of this rank. Gradients are reduced by NCCL between GPUs, otherwise by gloo.
        limit: seconds that a rank may be missing, at the start or suspended later; until then a
            line every ten seconds names the missing rank.
        backend: "nccl" or "gloo", which sums the gradients; by default the one named above. gloo
            also serves several ranks on one GPU, which NCCL refuses.

    Raises:
        SolverError: the other ranks cannot be reached, or the backend does not serve the device.
    """
    device = torch.device(device)
    backends = _backends(device, backend)
    rank, count = _environment_number("RANK", 0), _environment_number("WORLD_SIZE", 1)
    if started_by_torchrun():
        follow_launcher()
    elif count == 1:
        yield ProcessGroup()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    attempt = Rendezvous(rank, count, limit).wait_for_all()
    if count == 1:
        yield ProcessGroup(attempt=attempt)
        return
    try:
        dist.init_process_group(
            backends,
            store=dist.PrefixStore("group", attempt.store),
            rank=rank,
            world_size=count,
            timeout=_COLLECTIVE_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        raise SolverError(f"the ranks cannot reach each other: {first_line(error)}") from error
    with _Joined(attempt, limit) as process_group:
        yield process_group


def started_by_torchrun() -> bool:
    """Whether torchrun has started this process, which it may do again after a failure."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _backends(device: torch.device, wanted: str | None) -> str:
    """The backends of torch.distributed for a device, as ``init_process_group`` takes them."""
    on_gpu = device.type == "cuda"
    backend = wanted or ("nccl" if on_gpu else "gloo")
    if backend not in ("gloo", "nccl"):
        raise SolverError(f"backend is {backend!r}; it must be 'gloo' or 'nccl'")
    if backend == "gloo":
        return "cpu:gloo,cuda:gloo" if on_gpu else "gloo"
    if not on_gpu:
        raise SolverError(
            f"backend 'nccl' works between GPUs, and the device is {device}; use 'gloo'"
        )
    return "cpu:gloo,cuda:nccl"
