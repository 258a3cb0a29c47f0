"""Both generations of torch's switches of TF32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from caffecompat.net.execution import device
from caffecompat.net.execution.gpu.tf32 import products_in_tf32, switch_tf32
from caffecompat.net.execution.precision import arithmetic

BACKENDS: Any = torch.backends
CUDNN: Any = torch.backends.cudnn


def state() -> tuple[str, ...]:
    """What convolutions, recurrent layers and products use."""
    return (
        CUDNN.conv.fp32_precision,
        CUDNN.rnn.fp32_precision,
        BACKENDS.cuda.matmul.fp32_precision,
    )


def reset() -> None:
    BACKENDS.fp32_precision = CUDNN.fp32_precision = "none"
    for switch in (CUDNN.conv, CUDNN.rnn, BACKENDS.cuda.matmul):
        switch.fp32_precision = "none"
    CUDNN.allow_tf32, BACKENDS.cuda.matmul.allow_tf32 = True, False


@pytest.fixture(params=range(6), ids=str)
def program(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a program around ours may have done before."""
    kept = CUDNN.benchmark, CUDNN.deterministic
    reset()
    if request.param == 1:
        BACKENDS.fp32_precision = "tf32"
    elif request.param == 2:
        CUDNN.fp32_precision = "tf32"
    elif request.param == 3:
        CUDNN.conv.fp32_precision = "ieee"
    elif request.param == 4:
        BACKENDS.cuda.matmul.fp32_precision = "tf32"
    elif request.param == 5:
        torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")
    CUDNN.benchmark, CUDNN.deterministic = kept
    reset()


@pytest.mark.usefixtures("program")
def test_a_gpu_computes_in_full_precision() -> None:
    device._use_exact_operators()
    assert state() == ("ieee", "ieee", "ieee")
    # They agree, or torch would refuse to read the older ones.
    assert (CUDNN.allow_tf32, BACKENDS.cuda.matmul.allow_tf32) == (False, False)


@pytest.mark.usefixtures("program")
def test_tf32_for_a_while() -> None:
    before = state()
    with products_in_tf32(True):
        assert state() == ("tf32", "tf32", "tf32")
        assert CUDNN.allow_tf32
        assert BACKENDS.cuda.matmul.allow_tf32
    assert state() == before


@pytest.mark.usefixtures("program")
def test_a_pass_in_fp32_changes_nothing() -> None:
    """On a CPU a program may have them as it likes."""
    before = state()
    with arithmetic(torch.device("cpu"), "fp32"), products_in_tf32(False):
        assert state() == before
    assert state() == before


def test_tf32_after_full_precision() -> None:
    switch_tf32(False)
    with arithmetic(torch.device("cpu"), "tf32"):
        assert state() == ("tf32", "tf32", "tf32")
    assert state() == ("ieee", "ieee", "ieee")
    reset()
