"""The processes of one training: what they tell each other, and how they end together."""

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
from caffecompat.solver.distributed.rendezvous import Meeting, Presence
from caffecompat.solver.signals import Action

T = TypeVar("T")

# In the order in which a wish of one rank outdoes that of another.
_WEIGHT = (Action.NONE, Action.SNAPSHOT, Action.STOP, Action.PREEMPT)
# Ranks may wait for a long test or a slow disk of another one; a dead one is noticed otherwise.
_PATIENCE = timedelta(days=30)
# Seconds that a rank may be missing.
RANK_TIMEOUT = 600.0


class ProcessGroup:
    """One of the processes that train together, and its ways to the others.

    ``ProcessGroup()`` is a process on its own: everything here then does nothing, at no cost. Use
    :func:`join_ranks` for more.

    Attributes:
        rank, world_size: which of how many; rank 0 logs, tests and writes snapshots.
        silent: no rank may be waited for; each goes by what it knows itself.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank = rank
        self.world_size = world_size
        self.silent = False

    @property
    def shard(self) -> Shard:
        """The part of each batch that is this rank's."""
        return Shard(self.rank, self.world_size)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.world_size > 1

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While it lasts this rank does not wait for others, even where it else would."""
        before, self.silent = self.silent, True
        try:
            yield
        finally:
            self.silent = before

    def agree(self, action: Action) -> Action:
        """The strongest of the ranks' wishes."""
        if not self.several:
            return action
        wish = torch.tensor(_WEIGHT.index(action))
        self._wait(lambda: dist.all_reduce(wish, dist.ReduceOp.MAX))
        return _WEIGHT[int(wish)]

    def of_first(self, value: T) -> T:
        """What rank 0 passes, on every rank; must be picklable."""
        if not self.several:
            return value
        box: list[Any] = [value]
        self._wait(lambda: dist.broadcast_object_list(box, src=0, device=torch.device("cpu")))
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What all ranks pass, in their order, on every rank; must be picklable."""
        if not self.several:
            return [value]
        found: list[Any] = [None] * self.world_size
        self._wait(lambda: dist.all_gather_object(found, value))
        return found

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks of a tensor without a gradient, as a new tensor."""
        if not self.several or self.silent:
            return value
        total = value.detach().clone()
        self._wait(lambda: dist.all_reduce(total))
        return total

    def start_sum(self, value: torch.Tensor) -> Any:
        """Begins to add up ``value`` over all ranks in place; :meth:`finish` takes the answer."""
        return self._wait(lambda: dist.all_reduce(value, async_op=True))

    def finish(self, work: Any) -> None:
        """Waits for what :meth:`start_sum` began; on a GPU only the device waits."""
        self._wait(work.wait)

    def copy_from_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Gives ``tensors`` the values that rank 0 has."""
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
            raise self._left_alone(error) from error

    def _left_alone(self, error: RuntimeError) -> SolverError:
        """The answer to a connection that broke; mostly the alarm says why and ends the process."""
        return SolverError(
            f"rank {self.rank} of {self.world_size}: lost the other ranks: {first_line(error)}"
        )


class _Joined(ProcessGroup):
    """A rank of several, while its process group lasts."""

    def __init__(self, store: dist.Store, limit: float) -> None:
        super().__init__(dist.get_rank(), dist.get_world_size())
        self._alarm = alarm = FailureDetector(self.rank, self.world_size, _PATIENCE)
        self._presence = Presence(
            self.rank, self.world_size, store, limit, alarm.give_up, lambda: alarm.next_has_left
        )

    def _left_alone(self, error: RuntimeError) -> SolverError:
        self._alarm.wait_for_verdict()
        return super()._left_alone(error)

    def __enter__(self) -> _Joined:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._alarm.leave()
            self._presence.leave()
            dist.destroy_process_group()
        else:
            # The group is not taken down: that could wait for what will never come.
            self._alarm.raise_for(error)


def is_rank() -> bool:
    """Whether this process was started as one of several (torchrun, or our own launcher)."""
    return _number("WORLD_SIZE", 1) > 1


def local_rank() -> int:
    """The number of this process among those on its machine."""
    return _number("LOCAL_RANK", _number("RANK", 0))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise SolverError(
            f"the environment variable {name} is {text!r}, a number was expected; torchrun sets it "
            "for each of its processes"
        )
    return int(text) if text else default


@contextmanager
def join_ranks(device: str | torch.device, limit: float = RANK_TIMEOUT) -> Iterator[ProcessGroup]:
    """This process among those that torchrun, or ``--gpu 0,1``, has started with it.

    When a rank fails or dies while the context lasts, every rank says so and ends, whatever it
    was doing; leaving the context waits until all ranks leave it.

    Args:
        device: what the rank works on. Gradients travel by NCCL between GPUs, else by gloo.
        limit: seconds that a rank may be missing, at the start or by being suspended later; until
            then a line every ten seconds says which one is awaited.

    Raises:
        SolverError: the other ranks cannot be reached.
    """
    if not is_rank():
        yield ProcessGroup()
        return
    device, backend = torch.device(device), "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    rank, count = _number("RANK", 0), _number("WORLD_SIZE", 1)
    store = Meeting(rank, count, limit).gather()
    try:
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", store),
            rank=rank,
            world_size=count,
            timeout=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise SolverError(f"the ranks cannot reach each other: {first_line(error)}") from error
    with _Joined(store, limit) as process_group:
        yield process_group
