"""Devices, and arithmetic in full fp32 on them."""

from __future__ import annotations

import torch

from caffecompat.errors import NetError


def usable_device(device: str | torch.device) -> torch.device:
    """``device`` as torch knows it, made ready for full precision.

    Raises:
        NetError: it does not exist on this machine.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
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
    return chosen


def _use_exact_operators() -> None:
    """Keeps torch from computing in TF32, and from gradients that differ from run to run.

    torch allows TF32 in cuDNN convolutions by default, which costs about three decimal digits;
    the numbers would then not be Caffe's. Some of cuDNN's algorithms add gradients up in the order
    in which threads end; a resumed training would not be the uninterrupted one. The switches are
    torch's own and global, because backward passes run in threads that no local setting reaches.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
