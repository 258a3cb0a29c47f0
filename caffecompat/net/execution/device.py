"""The choice of a device, with full fp32 precision."""

from __future__ import annotations

import torch

from caffecompat.errors import NetError, first_line
from caffecompat.net.execution.gpu.tf32 import switch_tf32


def usable_device(device: str | torch.device) -> torch.device:
    """The torch device ``device``, with full fp32 precision switched on.

    Raises:
        NetError: it does not exist on this machine.
    """
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise NetError(f"unknown device {device!r}; use 'cpu', 'cuda' or 'cuda:N'") from error
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise NetError(
                f"device {str(device)!r} was asked for, but torch finds no CUDA device here; "
                "use the CPU, or install a CUDA build of torch"
            )
        if chosen.index is not None and chosen.index >= torch.cuda.device_count():
            raise NetError(
                f"there is no GPU {chosen.index}; this machine has {torch.cuda.device_count()}"
            )
        _use_exact_operators()
    elif chosen.type != "cpu":
        _check_built_for(chosen)
    return chosen


def _check_built_for(device: torch.device) -> None:
    """Refuses a device that this build of torch, or this machine, does not have."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's build for xpu is asserted
        raise NetError(
            f"device '{device}' was asked for, but torch has none here: {first_line(error)}; use "
            "the CPU"
        ) from error


def _use_exact_operators() -> None:
    """Switches off TF32, and cuDNN's algorithms that are nondeterministic or chosen by timing.

    By default torch uses TF32 in cuDNN convolutions, which loses about three decimal digits
    compared with Caffe. Nondeterministic algorithms add gradients in the order in which threads
    end, and algorithms chosen by timing change from run to run, so that a resumed training would
    differ from an uninterrupted one. The switches are global, because backward passes run in
    threads that local settings do not affect.
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    switch_tf32(False)
