"""Triton's interpreter, mended: it cuts fp32 off to bf16, where compiled kernels round."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.net.kernels.devices import INTERPRETED


@pytest.fixture(autouse=True)
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
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
