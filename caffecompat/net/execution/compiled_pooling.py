"""Maximum pooling that torch.compile leaves to torch's own operators.

Inductor computes the gradient of a maximum pooling by adding into a buffer, which on a GPU happens
in the order in which threads end: where windows overlap, two runs differ. torch's own operator
collects the gradients of each element in a fixed order. Operators of a library are not taken apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library

from caffecompat.layers._operation import TakeMaximum
from caffecompat.layers.pooling import pad_with_lowest
from caffecompat.net.module import LayerModule

_NO_DILATION = (1, 1)


def _form(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


@library.custom_op("caffecompat::max_pool", mutates_args=())
def max_pool(
    x: Tensor, kernel: list[int], stride: list[int], pad: list[int], ceil: bool
) -> tuple[Tensor, Tensor]:
    """Maxima and their indices of (N, C, H, W), in the memory order of ``x``."""
    y, index = torch.ops.aten.max_pool2d_with_indices(x, kernel, stride, pad, _NO_DILATION, ceil)
    return y.contiguous(memory_format=_form(x)), index.contiguous(memory_format=_form(x))


@max_pool.register_fake
def _(
    x: Tensor, kernel: list[int], stride: list[int], pad: list[int], ceil: bool
) -> tuple[Tensor, Tensor]:
    y, index = torch.ops.aten.max_pool2d_with_indices(x, kernel, stride, pad, _NO_DILATION, ceil)
    return y.contiguous(memory_format=_form(x)), index.contiguous(memory_format=_form(x))


@library.custom_op("caffecompat::max_pool_gradient", mutates_args=())
def max_pool_gradient(
    gradient: Tensor,
    x: Tensor,
    index: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    ceil: bool,
) -> Tensor:
    """The gradient of ``x``."""
    found: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        *(gradient.contiguous(memory_format=_form(x)), x, kernel, stride, pad),
        *(_NO_DILATION, ceil, index),
    )
    return found.contiguous(memory_format=_form(x))


@max_pool_gradient.register_fake
def _(gradient: Tensor, x: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(x, memory_format=_form(x))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *ctx.settings = inputs
    ctx.save_for_backward(x, output[1])


def _backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    x, index = ctx.saved_tensors
    return max_pool_gradient(gradient, x, index, *ctx.settings), None, None, None, None


max_pool.register_autograd(_backward, setup_context=_keep)


class WholePooling(torch.nn.Module):
    """A Pooling layer's maximum of (N, C, H, W) by :func:`max_pool`.

    Args:
        module: of the layer.
    """

    def __init__(self, module: LayerModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        layer: Any = self.module.layer
        if x.dim() != 4 or not x.numel():
            return self.module(x)
        windows = layer.windows(x.shape[2:])
        if min(windows.count) <= 0 or windows.dilation:
            return self.module(x)
        kernel, stride = list(windows.kernel), list(windows.stride)
        ceil = windows.torch_mode()
        if ceil is not None:
            return max_pool(x, kernel, stride, list(windows.pad), ceil)[0]
        return max_pool(pad_with_lowest(x, windows), kernel, stride, [0, 0], False)[0]


def keep_poolings_whole(module: torch.fx.GraphModule) -> int:
    """Replaces the maximum poolings of a program's module; returns how many."""
    count = 0
    for node in module.graph.nodes:
        if node.op != "call_module" or len(node.args) != 1:
            continue
        own = module.get_submodule(str(node.target))
        if isinstance(own, LayerModule) and isinstance(own.layer.fusible_operation(), TakeMaximum):
            module.add_submodule(str(node.target), WholePooling(own))
            count += 1
    return count
