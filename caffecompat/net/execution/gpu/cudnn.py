"""Convolutions for which cuDNN has no algorithm that gives the same numbers in each run.

With repeatable algorithms alone, and without TF32, few are left for kernels with three axes,
dilation, groups or strides of a transposed convolution. torch's own kernels compute them all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TypeVar

import torch

from caffecompat.errors import CaffeError, NetError, first_line

T = TypeVar("T")

_MISSING = re.compile(
    r"unable to find an engine|convolution algorithms available|find a valid cuDNN algorithm"
    r"|CUDNN_STATUS_NOT_SUPPORTED",
    re.IGNORECASE,
)


class NoAlgorithm(NetError):
    """cuDNN cannot compute a convolution of a pass.

    Attributes:
        problem: the sentence without the remedy.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}; set torch.backends.cudnn.enabled to False, which is slower, and run the "
            "pass again"
        )
        self.problem = problem


class _AlgorithmsExplained:
    """See :func:`algorithms_explained`; a class, since each pass enters it twice."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or not isinstance(error, RuntimeError) or isinstance(error, CaffeError):
            return
        if _MISSING.search(str(error)) is not None:
            raise NoAlgorithm(
                "cuDNN has no repeatable algorithm for a convolution of the net, or not enough "
                f"memory for one: {first_line(error)}"
            ) from error


_EXPLAINED = _AlgorithmsExplained()


def algorithms_explained() -> AbstractContextManager[None]:
    """A context for a forward or backward pass.

    Raises:
        NoAlgorithm: in place of torch's error.
    """
    return _EXPLAINED


def done_without_cudnn(
    work: Callable[[], T], undo: Sequence[Callable[[], None]], log: logging.Logger
) -> T:
    """The result of ``work``; where cuDNN lacks an algorithm, that of a second try without it.

    Args:
        undo: what takes back the changes of the first try.
        log: for a line about it.
    """
    try:
        return work()
    except NoAlgorithm as error:
        if not torch.backends.cudnn.enabled:
            raise
        log.warning(f"{error.problem}; torch's own kernels are used from here on, which are slower")
        torch.backends.cudnn.enabled = False
        for step in undo:
            step()
        return work()
