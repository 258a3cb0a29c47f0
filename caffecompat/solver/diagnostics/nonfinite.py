"""Losses and weights that are not finite: their detection, and the layer where they begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from caffecompat.errors import SolverError
from caffecompat.net import Net, Stepper
from caffecompat.net.execution.kept_state import KeptState
from caffecompat.reporting.glog import number

_REMEDY = "lower base_lr or set clip_gradients"


class NotFinite(SolverError):
    """A loss or a weight is not finite; the weights are those before the iteration.

    Attributes:
        iteration: whose loss it is, which may be the one before the running one; None for a weight.
    """

    iteration: int | None = None

    @classmethod
    def loss(cls, place: str, iteration: int, loss: float, found: str) -> NotFinite:
        """For the loss of an iteration; ``found`` is what :func:`explain` returns."""
        error = cls(
            f"{place}: iteration {iteration}: the loss is {number(loss)}, a finite number was "
            f"expected: {found}"
        )
        error.iteration = iteration
        return error


def read_later(numbers: torch.Tensor) -> Callable[[], list[float]]:
    """A function that returns the elements of ``numbers`` as they are now.

    On a GPU they are copied asynchronously: a call after further work has been launched does not
    make the host wait for that work.
    """
    numbers = numbers.detach().flatten()
    if numbers.device.type != "cuda":
        values: list[float] = numbers.tolist()
        return lambda: values
    copied = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    copied.copy_(numbers, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(numbers.device))

    def values_when_copied() -> list[float]:
        event.synchronize()
        found: list[float] = copied.tolist()
        return found

    return values_when_copied


def tensors_are_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether every element is a finite number; waits for the device once."""
    present = [tensor.detach() for tensor in tensors if tensor.numel()]
    if not present:
        return True
    largest = torch.stack(torch._foreach_norm(present, math.inf))
    return bool(torch.isfinite(largest).all())


def array_is_finite(array: np.ndarray) -> bool:
    """Whether every element is a finite number."""
    return not array.size or bool(np.isfinite([array.min(), array.max()]).all())


def explain(net: Net, index: int) -> str:
    """Finds where the loss of a pass stops being finite.

    The pass runs again layer by layer; what it changes in the net is restored.

    Returns:
        A clause that names the first layer whose output is not finite, or the parameter that was
        not finite before the pass, and a remedy.
    """
    for entry in net.learnable:
        if not tensors_are_finite([entry.tensor]):
            return (
                f"parameter {entry.index} of layer {entry.layer!r} is already not finite before "
                f"the pass; the update before it broke it, {_REMEDY}"
            )
    kept = KeptState(net)
    kept.keep()
    try:
        found = _first_nonfinite_output(net, index)
    finally:
        kept.restore()
    return found or f"every output is finite, but their sum is not; {_REMEDY}"


@torch.no_grad()
def _first_nonfinite_output(net: Net, index: int) -> str:
    stepper = Stepper(net)
    stepper.begin(index)
    for i, built in enumerate(net.layers):
        tops = stepper.forward_layer(i)
        for version, top in zip(built.tops, tops, strict=False):
            if not tensors_are_finite([top.float()]):
                remedy = "look at the data" if built.source is not None else _REMEDY
                return f"{built.place}: its output {version.blob!r} is the first; {remedy}"
    return ""
