"""Shape rules, each answer of which is compared with that of torch's own kernel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from caffecompat.net.shapes.operator_shapes import OperatorShapes


class CheckedShapes(OperatorShapes):
    """Holds every answer of a rule equal to what torch answers on ``meta`` tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = self.answer(func, args, kwargs or {})
        expected = func(*args, **(kwargs or {}))
        if answer is not None:
            assert described(answer) == described(expected), f"{func}{args}"
        return expected


def described(value: Any) -> list[Any]:
    """Device, type, shape and order in memory of each tensor."""
    tensors = [value] if isinstance(value, Tensor) else value
    return [
        (t.device.type, t.dtype, tuple(t.shape), t.is_contiguous() or t.stride()) for t in tensors
    ]
