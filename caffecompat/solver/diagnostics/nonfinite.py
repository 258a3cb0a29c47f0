"""Losses and weights that are no finite numbers: noticing them, and finding where they began."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from caffecompat.errors import SolverError
from caffecompat.net import Net, Stepper

_CURE = "lower base_lr or set clip_gradients"


class NotFinite(SolverError):
    """A loss or a weight is no finite number; the weights are those before the iteration."""


def watch(loss: torch.Tensor) -> Callable[[], float]:
    """A function that gives the value of ``loss``.

    On a GPU the value is on its way while the caller goes on, so that asking for it after the
    backward pass has been handed over keeps no one waiting.
    """
    if loss.device.type != "cuda":
        return lambda: float(loss.detach())
    value = torch.empty((), dtype=loss.dtype, pin_memory=True)
    value.copy_(loss.detach(), non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(loss.device))

    def arrived() -> float:
        event.synchronize()
        return float(value)

    return arrived


def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether every element is a finite number; waits for the device once."""
    present = [tensor.detach() for tensor in tensors if tensor.numel()]
    if not present:
        return True
    largest = torch.stack(torch._foreach_norm(present, math.inf))
    return bool(torch.isfinite(largest).all())


def are_finite(array: np.ndarray) -> bool:
    """Whether every element is a finite number."""
    return not array.size or bool(np.isfinite([array.min(), array.max()]).all())


def explain(net: Net, index: int) -> str:
    """Where a pass goes wrong, and what to do about it.

    The pass is run again layer by layer; statistics that it changes get their values back.

    Returns:
        The first layer whose output is not finite, or the parameter that was broken before the
        pass, then a suggestion.
    """
    for entry in net.learnable:
        if not all_finite([entry.tensor]):
            return (
                f"parameter {entry.index} of layer {entry.layer!r} is already not finite before "
                f"the pass; the update before it broke it, {_CURE}"
            )
    with _statistics_kept(net), torch.no_grad():
        stepper = Stepper(net)
        stepper.begin(index)
        for i, built in enumerate(net.layers):
            tops = stepper.forward_layer(i)
            for version, top in zip(built.tops, tops, strict=False):
                if all_finite([top.float()]):
                    continue
                cure = "look at the data" if built.source is not None else _CURE
                return f"{built.place}: its output {version.blob!r} is the first; {cure}"
    return f"every output is finite, but their sum is not; {_CURE}"


@contextmanager
def _statistics_kept(net: Net) -> Iterator[None]:
    buffers = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
