"""Answers torch's operators on ``meta`` tensors by the shape rules of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, device
from torch.utils._python_dispatch import TorchDispatchMode

from caffecompat.net.shapes import elementwise, matrices, sliding_windows

RULES = {**elementwise.rules, **matrices.rules, **sliding_windows.rules}
_META = device("meta")


class OperatorShapes(TorchDispatchMode):
    """Context in which the common operators on ``meta`` tensors are answered by shape rules.

    Many of torch's own kernels for ``meta`` tensors are Python code that imports ``sympy`` and
    ``torch._dynamo`` when the first of them runs, which takes as long as ``import torch``. They
    answer what has no rule, or where a rule does not apply.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps __torch_dispatch__ in a function that imports torch._dynamo.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        answer = self.answer(func, args, kwargs)
        return func(*args, **kwargs) if answer is None else answer

    @staticmethod
    def answer(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """What the operator's rule answers; None if there is no rule or it does not apply."""
        rule = RULES.get(operator.name())
        return rule(*args, **kwargs) if rule and gives_meta(args, kwargs) else None


def gives_meta(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the result is a ``meta`` tensor: the arguments are, but for single values."""
    tensors = list(_tensors((*args, *kwargs.values())))
    if not tensors:
        return kwargs.get("device") == _META
    on_meta = [tensor.is_meta for tensor in tensors]
    rest = zip(tensors, on_meta, strict=True)
    return any(on_meta) and all(meta or tensor.dim() == 0 for tensor, meta in rest)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
