"""Times of programs that take turns, so that other work on the machine meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

from caffecompat.layers import Shape
from caffecompat.net import Net

Name = TypeVar("Name", bound=Hashable)

# Turns of a comparison: at least, at most, and the time after which it ends.
LEAST_TURNS, MOST_TURNS = 3, 25
SECONDS = 5.0


def example_feeds(net: Net, shapes: Mapping[str, Shape] | None = None) -> list[torch.Tensor]:
    """Normal values for the Input layers of a net, the same in each call, else its data.

    Args:
        shapes: by name; by default those of the definition.
    """
    generator = torch.Generator().manual_seed(1)
    chosen = shapes or {}
    if any(built.source and not built.source.is_input for built in net.layers):
        return net.feeds(0)
    return [
        torch.randn(chosen.get(top.blob, net.shape_of(top)), generator=generator).to(net.device)
        for top in net.program().feeds
    ]


def seconds_in_turns(
    programs: Mapping[Name, Callable[[Sequence[torch.Tensor]], Any]], feeds: Sequence[torch.Tensor]
) -> dict[Name, float]:
    """The median time of each program's pass, after one that does not count."""
    times = turns({name: partial(run, feeds) for name, run in programs.items()})
    return {name: statistics.median(each) for name, each in times.items()}


def turns(
    work: Mapping[Name, Callable[[], object]],
    least: int = LEAST_TURNS,
    most: int = MOST_TURNS,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, list[float]]:
    """The times of each work in turns, in seconds, after one turn that does not count.

    Args:
        least, most: the number of turns.
        seconds: no turn begins later than this after the first, except for the least number.
        clock: what measures.
    """
    times: dict[Name, list[float]] = {name: [] for name in work}
    with torch.inference_mode():
        for run in work.values():
            run()
        started = time.perf_counter()
        for turn in range(most):
            if turn >= least and time.perf_counter() - started > seconds:
                break
            for name, run in work.items():
                begun = clock()
                elapsed = run()
                own = clock() - begun
                # Work in another process says how long it has taken.
                times[name].append(elapsed if isinstance(elapsed, float) else own)
    return times
