"""Where the Triton kernels are tested: on a GPU, and on the CPU by Triton's interpreter."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import pytest
import torch

INTERPRETED = find_spec("triton") is not None and os.environ.get("TRITON_INTERPRET") == "1"

DEVICES = pytest.mark.parametrize(
    "device",
    [
        pytest.param(
            "cpu",
            marks=pytest.mark.skipif(
                not INTERPRETED,
                reason="needs triton, and TRITON_INTERPRET=1 before it is imported",
            ),
        ),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(
                    not torch.cuda.is_available() or INTERPRETED, reason="needs a CUDA device"
                ),
            ],
        ),
    ],
)
HALVES = [torch.bfloat16, torch.float16]
FORMATS = [torch.contiguous_format, torch.channels_last]


def random(
    shape: tuple[int, ...],
    device: str,
    dtype: torch.dtype = torch.float32,
    form: torch.memory_format = torch.contiguous_format,
    seed: int = 1,
) -> torch.Tensor:
    """Normal numbers, the same on each device."""
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.to(device, dtype).contiguous(memory_format=form)


def mend_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes Triton's interpreter round fp32 to bf16, as compiled kernels do; it cuts off."""
    if not INTERPRETED:
        return
    import triton.language as tl
    from triton.runtime import interpreter

    def truncated(self: Any, source: Any, type_: Any) -> Any:
        if (source.dtype.scalar, type_.scalar) != (tl.float32, tl.bfloat16):
            return self.cast_impl(source, type_)
        rounded = torch.from_numpy(source.data).to(torch.bfloat16)
        bits = rounded.view(torch.uint16).numpy()
        return interpreter.TensorHandle(bits, tl.bfloat16)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_fp_trunc", truncated)
