"""The launch of a Triton kernel: on the right device, with errors that a user understands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from caffecompat.errors import CaffeError, NetError, first_line

# What all launches share: each product and each sum is rounded, as torch's operators round them.
# Left to Triton, that would depend on its version.
OPTIONS: Mapping[str, Any] = {"enable_fp_fusion": False}


class KernelFailed(NetError):
    """A Triton kernel does not compile or cannot be launched; torch's operators can be used.

    Attributes:
        problem: the sentence without the remedy.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; train with --no-kernels")
        self.problem = problem


@contextmanager
def launching(operation: str, on: Tensor) -> Iterator[None]:
    """A context for the launch of the kernel of ``operation`` on the device of ``on``.

    Raises:
        KernelFailed: the kernel does not compile or cannot be launched.
    """
    try:
        # Triton launches on the current device.
        with torch.cuda.device_of(on):
            yield
    except (CaffeError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # Triton, its compiler and the driver have errors of many types
        raise KernelFailed(
            f"the Triton kernel for {operation} does not run on {on.device}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
