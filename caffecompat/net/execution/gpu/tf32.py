"""torch's switches of TF32, of which there are two generations that must agree.

A program around ours may have used either. torch refuses to read the older switches where the newer
ones say something else, and the older ones alone do not overrule a newer one for everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def switch_tf32(on: bool) -> None:
    """Lets CUDA convolutions and products of fp32 numbers use TF32, or not."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    for switch in _switches():
        switch.fp32_precision = "tf32" if on else "ieee"


@contextmanager
def products_in_tf32(wanted: bool) -> Iterator[None]:
    """CUDA convolutions and products of fp32 numbers use TF32 while the context lasts.

    If it is not ``wanted`` nothing changes.
    """
    if not wanted:
        yield
        return
    before = [switch.fp32_precision for switch in _switches()]
    switch_tf32(True)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0] == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = before[2] == "tf32"
        for switch, value in zip(_switches(), before, strict=True):
            switch.fp32_precision = value


def _switches() -> tuple[Any, ...]:
    """The newer switches: of convolutions, of recurrent layers, of products."""
    cudnn: Any = torch.backends.cudnn
    return cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul
