"""Modules that compute what one or several layers compute, with fewer passes over memory.

Each holds the modules of its layers, whose parameters it uses, and calls them where its own way
does not apply.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caffecompat.errors import CaffeError, first_line
from caffecompat.layers._operation import Convolve, Drop
from caffecompat.net.kernels import dropout, pooling, rectified
from caffecompat.net.kernels.choice import TORCH_OPERATORS, Kernels
from caffecompat.net.kernels.memory_format import empty_stored, stored_channels, with_stored
from caffecompat.net.module import LayerModule

_log = logging.getLogger("caffecompat")


class FusedLayers(nn.Module):
    """One or several layers of which each reads the one before it.

    Args:
        modules: of the layers, in order.
    """

    def __init__(self, modules: Sequence[LayerModule]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(modules)

    def use_torch_operators(self) -> None:
        """Computes all further passes without Triton kernels."""
        raise NotImplementedError

    def one_by_one(self, x: Tensor) -> Tensor:
        """The layers' own forward passes."""
        for module in self.layers:
            x = module(x)
        return x


@dataclass(frozen=True)
class ConvolutionPlan:
    """How a convolution is computed with its ReLU.

    Attributes:
        convolve: the convolution.
        halved: whether a maximum pooling of 2x2 with stride 2 follows.
        in_one: whether cuDNN computes convolution, bias and ReLU in one operation.
        kernels: which Triton kernels take part.
        stored: the channels with which the bottom lies in memory if it comes in 16 bits, zeros
            after its own; 0 for its own alone.
    """

    convolve: Convolve
    halved: bool
    in_one: bool
    kernels: Kernels
    stored: int = 0


class FusedConvolution(FusedLayers):
    """Convolution, bias and ReLU in 16 bits, and a maximum pooling of 2x2 with stride 2.

    It acts while torch casts convolutions to 16 bits (autocast). Forward the sum with the bias is
    rounded once; the bias' gradient is summed in fp32.
    """

    def __init__(self, modules: Sequence[LayerModule], plan: ConvolutionPlan) -> None:
        super().__init__(modules)
        self._plan = plan

    def use_torch_operators(self) -> None:
        self._plan = replace(self._plan, kernels=TORCH_OPERATORS)

    def expect_stored_channels(self) -> int:
        """The channels with which a bottom in 16 bits is best stored, and from now on expected."""
        layer: Any = self.layers[0].layer
        channels = int(layer.channels)
        stored = channels if self._plan.convolve.group > 1 else stored_channels(channels)
        self._plan = replace(self._plan, stored=stored)
        return stored

    def forward(self, x: Tensor) -> Any:
        convolution = self.layers[0]
        assert isinstance(convolution, LayerModule)
        half = torch.get_autocast_dtype(x.device.type)
        if not torch.is_autocast_enabled(x.device.type) or not self._fits(x, convolution):
            return self.one_by_one(x)
        weight, bias = convolution.arguments().values()
        try:
            return _ConvolutionReLU.apply(x.to(half), weight, bias, self._plan)
        except (CaffeError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:
            if not self._plan.in_one:
                raise
            # cuDNN has no such operation for every shape; from here on it is not asked again.
            _log.info(
                f"{convolution.layer.context.place}: fused without cuDNN: {first_line(error)}"
            )
            self._plan = replace(self._plan, in_one=False)
        return _ConvolutionReLU.apply(x.to(half), weight, bias, self._plan)

    def _fits(self, x: Tensor, convolution: LayerModule) -> bool:
        """Whether the bottom has the shape of the definition, and the kernel fits into it."""
        layer: Any = convolution.layer
        if x.dim() != 4 or x.shape[1] != layer.channels or not x.numel():
            return False
        extents = layer.geometry.kernel_extent
        pads = self._plan.convolve.pad
        return all(
            size + 2 * pad >= extent
            for size, pad, extent in zip(x.shape[2:], pads, extents, strict=True)
        )


class _ConvolutionReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, plan: ConvolutionPlan) -> Tensor:
        ctx.plan, ctx.types, ctx.channels = plan, (weight.dtype, bias.dtype), weight.shape[1]
        half = weight.to(x.dtype)
        whole = None if ctx.needs_input_grad[0] else with_stored(x, plan.stored)
        if whole is not None:
            x, half = whole, _padded(half, plan.stored)
        y = _rectified_convolution(x, half, bias.to(x.dtype), plan)
        if not plan.halved:
            ctx.save_for_backward(x, half, y)
            return y
        windows = _halving(plan.kernels)
        top, index = pooling.maxima(y, windows, none_if_zero=True)
        ctx.plane = y.shape[2:]
        ctx.save_for_backward(x, half, index)
        return top

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, saved = ctx.saved_tensors
        plan: ConvolutionPlan = ctx.plan
        kernel = plan.kernels.rectified
        if plan.halved:
            passed, bias = rectified.unpooled_gradient(gradient, saved, ctx.plane, kernel)
        else:
            passed, bias = rectified.rectified_gradient(gradient, saved, kernel)
        needed = ctx.needs_input_grad
        convolve = plan.convolve
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            *(passed, x, weight, None, convolve.stride, convolve.pad, convolve.dilation),
            *(False, (0, 0), convolve.group, (needed[0], needed[1], False)),
        )
        weight_type, bias_type = ctx.types
        return (
            of_x if needed[0] else None,
            of_weight[:, : ctx.channels].to(weight_type) if needed[1] else None,
            bias.to(bias_type) if needed[2] else None,
            None,
        )


def _padded(weight: Tensor, channels: int) -> Tensor:
    """A weight (O, C, H, W) with ``channels`` channels, the further ones zero; channels last."""
    made = empty_stored(weight.shape, channels, weight.dtype, weight.device).zero_()
    made[:, : weight.shape[1]] = weight
    return made


def _rectified_convolution(
    x: Tensor, weight: Tensor, bias: Tensor, plan: ConvolutionPlan
) -> Tensor:
    convolve = plan.convolve
    settings = (convolve.stride, convolve.pad, convolve.dilation, convolve.group)
    if plan.in_one:
        y: Tensor = torch.cudnn_convolution_relu(x, weight, bias, *settings)
        return y
    return F.conv2d(x, weight, bias, *settings).relu_()


def _halving(kernels: Kernels) -> pooling.PoolingWindows:
    return replace(rectified.HALVING, kernel_computes=kernels.pooling)


class FusedPooling(FusedLayers):
    """Maximum pooling with one byte of index instead of eight."""

    def __init__(self, modules: Sequence[LayerModule], kernels: Kernels) -> None:
        super().__init__(modules)
        self._kernels = kernels

    def use_torch_operators(self) -> None:
        self._kernels = TORCH_OPERATORS

    def forward(self, x: Tensor) -> Any:
        (module,) = self.layers
        layer: Any = module.layer
        if x.dim() != 4 or not x.numel():
            return module(x)
        windows = layer.windows(x.shape[2:])
        mode = windows.torch_mode() if min(windows.count) > 0 else None
        elements = windows.kernel[0] * windows.kernel[1]
        if mode is None or elements > pooling.MOST_ELEMENTS:
            return module(x)
        return pooling.max_pool(
            x,
            pooling.PoolingWindows(
                *(windows.kernel, windows.stride, windows.pad, mode), self._kernels.pooling
            ),
        )


class FusedDropout(FusedLayers):
    """Dropout that computes its mask again in the backward pass."""

    def __init__(self, modules: Sequence[LayerModule], drop: Drop, kernels: Kernels) -> None:
        super().__init__(modules)
        self._drop = drop
        self._kernel = kernels.dropout

    def use_torch_operators(self) -> None:
        self._kernel = False

    def forward(self, x: Tensor) -> Tensor:
        (module,) = self.layers
        layer: Any = module.layer
        # Read in each pass: the net replaces its position when it moves to another device.
        settings = dropout.DropoutSettings(
            layer.noise, self._drop.probability, self._drop.scale, self._kernel
        )
        return dropout.dropout(x, settings)
