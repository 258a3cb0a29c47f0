"""Times of programs that take turns, so that other work on the machine meets all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import torch

from caffecompat.errors import CaffeError, NetError, first_line
from caffecompat.layers import Shape
from caffecompat.net import Net

Name = TypeVar("Name", bound=Hashable)

# Turns of a comparison: at least, at most, and the time after which it ends.
LEAST_TURNS, MOST_TURNS = 3, 25
SECONDS = 5.0
# The same of the choice of an engine, whose turns the user waits for. In the first turn an engine
# may have to ask the kernel for memory that the engines behind it have taken in theirs.
LEAST_CHOICE_TURNS, CHOICE_TURNS = 2, 10
CHOICE_SECONDS = 4.0
# After LEAST_TURNS, programs that take this many times the time of the best take no more turns.
_CLEARLY_BEHIND = 1.3
# Before a program's passes, in seconds: threads of the program before, which wait for work without
# sleeping, give the processor up meanwhile. Those of ONNX Runtime with its own settings do so after
# 2^20 pauses of 40 to 140 cycles, those of OpenMP after 300,000. In a choice ONNX Runtime has ours.
_PAUSE, _PAUSE_IN_A_CHOICE = 0.06, 0.02
# How long a program's passes of one turn go on, in seconds, after the first; at least one follows.
# The first finds the caches full of another program's numbers; and on a virtual machine whose host
# takes memory back that has not been used for some milliseconds, it asks for that again: VGG-16 in
# bf16 with ten images took 230 ms then, and 140 afterwards.
_BURST = 0.02
# In a choice, whose user waits, a pass that takes this long stays alone.
_LONG = 0.2


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


def one_pass(
    net: Net,
    program: Callable[[Sequence[torch.Tensor]], Any],
    shapes: Mapping[str, Shape] | None = None,
) -> None:
    """Runs example inputs once, so that a program has the memory that its passes need.

    Nothing runs for nets that read data or keep a state. If the pass fails nothing is said here:
    the user's own passes say why.
    """
    reads = any(built.source and not built.source.is_input for built in net.layers)
    if reads or any(built.layer and built.layer.keeps_state for built in net.layers):
        return
    with suppress(CaffeError, RuntimeError), torch.no_grad():
        program(example_feeds(net, shapes))


def least_seconds(
    programs: Mapping[Name, Callable[[Sequence[torch.Tensor]], Any]],
    feeds: Sequence[torch.Tensor],
    seconds: float = CHOICE_SECONDS,
) -> dict[Name, float]:
    """The least time of each program's passes, in turns, after one pass that does not count.

    Args:
        seconds: no turn begins later than this after the first, except for the least number.
            Programs that are clearly behind after some turns take no more.

    Returns:
        Seconds; infinity for a program that fails.

    Raises:
        NetError: all fail.
    """
    least = dict.fromkeys(programs, float("inf"))
    with torch.no_grad():
        left = _running({name: partial(run, feeds) for name, run in programs.items()})
        started = time.perf_counter()
        for turn in range(1, CHOICE_TURNS + 1):
            for name, run in left.items():
                times = _burst(run, _PAUSE_IN_A_CHOICE, time.perf_counter, long=_LONG)
                least[name] = min(least[name], *times)
            if turn >= LEAST_TURNS:
                limit = _CLEARLY_BEHIND * min(least.values())
                left = {name: run for name, run in left.items() if least[name] <= limit}
            late = time.perf_counter() - started > seconds
            if len(left) == 1 or (late and turn >= LEAST_CHOICE_TURNS):
                break
    return least


def _running(work: Mapping[Name, Callable[[], Any]]) -> dict[Name, Callable[[], Any]]:
    """Those that run, after one pass of each."""
    left = dict(work)
    problems: list[Exception] = []
    for name, run in work.items():
        try:
            run()
        except (CaffeError, RuntimeError) as error:  # torch's are of many types
            del left[name]
            problems.append(error)
    if not left and problems:
        sentence = f"no engine runs the net with such inputs: {first_line(problems[0])}"
        raise NetError(sentence) from problems[0]
    return left


def turns(
    work: Mapping[Name, Callable[[], object]],
    least: int = LEAST_TURNS,
    most: int = MOST_TURNS,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, list[float]]:
    """The times of each work in turns, in seconds, after one turn that does not count.

    Work is done several times in each turn, and the last time counts.

    Args:
        least, most: the number of turns.
        seconds: no turn begins later than this after the first, except for the least number.
        clock: what measures.
    """
    times: dict[Name, list[float]] = {name: [] for name in work}
    if not work:
        return times
    order = list(work.items())
    with torch.inference_mode():
        for run in work.values():
            run()
        started = time.perf_counter()
        for turn in range(most):
            if turn >= least and time.perf_counter() - started > seconds:
                break
            # Back and forth, from another one each time: none always follows the same one.
            order.append(order.pop(0))
            for name, run in reversed(order) if turn % 2 else order:
                times[name].append(_burst(run, _PAUSE, clock)[-1])
    return times


def _burst(
    run: Callable[[], object], pause: float, clock: Callable[[], float], long: float = math.inf
) -> list[float]:
    """The times of passes that follow each other, after a pause: at least two.

    Args:
        long: seconds; a first pass that takes longer stays alone.
    """
    time.sleep(pause)
    times = [_seconds(run, clock)]
    if times[0] < long:
        ends = time.perf_counter() + _BURST
        while len(times) == 1 or time.perf_counter() < ends:
            times.append(_seconds(run, clock))
    return times


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    """The time of one pass; work in another process says how long it has taken."""
    begun = clock()
    elapsed = run()
    own = clock() - begun
    return elapsed if isinstance(elapsed, float) else own
