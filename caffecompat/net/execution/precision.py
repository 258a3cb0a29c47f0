"""The precision of passes: fp32, fp64, tf32, bf16, fp16."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from caffecompat.errors import NetError
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.execution.gpu.tf32 import products_in_tf32

PRECISIONS = ("fp32", "fp64", "tf32", "bf16", "fp16")
# Parameters stay in fp32 in these.
TRAINING_PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, known: Sequence[str] = PRECISIONS) -> None:
    """Raises NetError where there is no such precision."""
    if precision not in known:
        raise NetError(f"precision is {precision!r}; it must be one of {', '.join(known)}")


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """A context in which forward passes run in fp32, fp64 (a net in double), tf32, bf16 or fp16.

    In bf16 and fp16 torch casts the inputs of convolutions and matrix products only; run backward
    passes outside of the context. In tf32 run them inside, because the context sets a global switch
    of torch, which it restores at the end.

    Raises:
        NetError: there is no such precision.
    """
    check_precision(precision)
    if precision in HALVES:
        with torch.autocast(device.type, HALVES[precision]):
            yield
        return
    with products_in_tf32(precision == "tf32"):
        yield


def keep_results_whole(layers: Sequence[BuiltLayer]) -> None:
    """Converts the bottoms of losses and of layers without gradient (accuracies, indices) to fp32.

    Sums over many positions and differences of near numbers are too inexact in 16 bits, which
    cannot represent labels such as 257 either.
    """
    for built in layers:
        if built.module is None or built.layer is None:
            continue
        if built.layer.is_loss or not any(built.layer.differentiable):
            built.module.register_forward_pre_hook(_widen)


def _widen(module: torch.nn.Module, bottoms: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        bottom.float() if bottom.dtype in HALVES.values() else bottom for bottom in bottoms
    )
