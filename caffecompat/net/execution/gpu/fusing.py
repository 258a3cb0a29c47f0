"""Replaces layers of a lean program by modules that compute the same with less memory traffic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from caffecompat.graph import Version
from caffecompat.layers._operation import Convolve, Drop, Operation, Rectify, TakeMaximum
from caffecompat.net.execution.gpu.fused_modules import (
    ConvolutionPlan,
    FusedConvolution,
    FusedDropout,
    FusedLayers,
    FusedPooling,
)
from caffecompat.net.fx_program import Program
from caffecompat.net.kernels.choice import Kernels
from caffecompat.net.module import LayerModule


@dataclass(frozen=True)
class FusingOptions:
    """What is fused, and how it is computed.

    Attributes:
        kernels: which Triton kernels are used.
        convolution_in_one: cuDNN computes convolution, bias and ReLU in one operation.
        everything: fuse also where nothing is gained because a kernel is missing; for tests.
    """

    kernels: Kernels
    convolution_in_one: bool = False
    everything: bool = False

    @property
    def halves(self) -> bool:
        """Whether a convolution takes the pooling after it along."""
        return self.everything or (self.kernels.pooling and self.kernels.rectified)

    @property
    def convolutions(self) -> bool:
        return self.everything or self.convolution_in_one or self.kernels.rectified


@dataclass(frozen=True)
class Fused:
    """What :func:`fuse` has replaced.

    Attributes:
        convolutions: convolutions with their ReLU, without a pooling.
        halved: convolutions with their ReLU and a pooling of 2x2.
        poolings, dropouts: further layers that a kernel computes.
    """

    convolutions: int = 0
    halved: int = 0
    poolings: int = 0
    dropouts: int = 0

    def sentence(self) -> str:
        """One line for the log; empty if nothing was replaced."""
        parts = [
            f"{number} {what}"
            for number, what in (
                (self.convolutions, "convolution + ReLU"),
                (self.halved, "convolution + ReLU + pooling"),
                (self.poolings, "pooling"),
                (self.dropouts, "dropout"),
            )
            if number
        ]
        return f"Fused for the GPU: {', '.join(parts)}" if parts else ""


def fuse(program: Program, options: FusingOptions) -> Fused:
    """Replaces layers of ``program`` in place; other programs of the net stay as they are.

    Fused are a convolution of (N, C, H, W) with a bias and the ReLU without slope that alone reads
    it, and with them a maximum pooling of 2x2 with stride 2 that alone reads the ReLU; further
    maximum poolings; and dropout. A top between two layers of a chain must not be an output of the
    program, have a loss weight or be cut off from gradients (``propagate_down: false``).
    """
    graph = program.module.graph
    done: dict[str, int] = {}
    replaced: set[fx.Node] = set()
    for node in list(graph.nodes):
        chain = [] if node in replaced else _chain(program.module, node, options)
        if not chain:
            continue
        replaced.update(chain)
        kind = _replace(program.module, chain, options)
        done[kind] = done.get(kind, 0) + 1
    graph.lint()
    program.module.recompile()
    return Fused(**done)


def half_inputs(program: Program) -> dict[Version, int]:
    """The source tops that a fused convolution alone reads, and the channels to store them with.

    The convolution then expects what comes in 16 bits to lie in memory so.
    """
    found = {}
    places = [node for node in program.module.graph.nodes if node.op == "placeholder"]
    for top, node in zip(program.feeds, places, strict=True):
        readers = list(node.users)
        if len(readers) != 1 or readers[0].op != "call_module":
            continue
        module = program.module.get_submodule(str(readers[0].target))
        if isinstance(module, FusedConvolution):
            found[top] = module.expect_stored_channels()
    return found


def use_torch_operators(program: Program) -> None:
    """Computes the fused layers of a program without Triton kernels from here on."""
    for module in program.module.modules():
        if isinstance(module, FusedLayers):
            module.use_torch_operators()


def _chain(module: fx.GraphModule, node: fx.Node, options: FusingOptions) -> list[fx.Node]:
    """The nodes that one module can replace, of which ``node`` is the first."""
    operation = _operation(module, node)
    if isinstance(operation, Convolve) and options.convolutions:
        relu = _only_reader(module, node)
        if relu is None or not isinstance(_operation(module, relu), Rectify):
            return []
        pool = _only_reader(module, relu) if options.halves else None
        after = None if pool is None else _operation(module, pool)
        if pool is not None and isinstance(after, TakeMaximum) and after.halves:
            return [node, relu, pool]
        return [node, relu]
    if isinstance(operation, TakeMaximum):
        return [node] if options.everything or options.kernels.pooling else []
    if isinstance(operation, Drop):
        return [node] if options.everything or options.kernels.dropout else []
    return []


def _operation(module: fx.GraphModule, node: fx.Node) -> Operation | None:
    layer = _layer_module(module, node)
    return None if layer is None else layer.layer.fusible_operation()


def _layer_module(module: fx.GraphModule, node: fx.Node) -> LayerModule | None:
    if node.op != "call_module" or len(node.args) != 1:
        return None
    found = module.get_submodule(str(node.target))
    return found if isinstance(found, LayerModule) else None


def _only_reader(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The layer that reads a node, if it is the only reader."""
    readers = list(node.users)
    alone = len(readers) == 1 and _layer_module(module, readers[0]) is not None
    return readers[0] if alone else None


def _replace(module: fx.GraphModule, chain: Sequence[fx.Node], options: FusingOptions) -> str:
    """Puts one module in the place of a chain; returns the field of :class:`Fused` to count."""
    first, last = chain[0], chain[-1]
    modules = [_layer_module(module, node) for node in chain]
    made, kind = _fused([m for m in modules if m is not None], options)
    target = f"fused_{first.target}"
    module.add_submodule(target, made)
    with module.graph.inserting_after(last):
        node = module.graph.call_module(target, first.args)
    node.meta = {**last.meta, "layers": [n.meta["layer"] for n in chain]}
    last.replace_all_uses_with(node)
    for old in reversed(chain):
        module.graph.erase_node(old)
    return kind


def _fused(modules: list[LayerModule], options: FusingOptions) -> tuple[nn.Module, str]:
    operation = modules[0].layer.fusible_operation()
    if isinstance(operation, Convolve):
        halved = len(modules) == 3
        plan = ConvolutionPlan(operation, halved, options.convolution_in_one, options.kernels)
        return FusedConvolution(modules, plan), "halved" if halved else "convolutions"
    if isinstance(operation, Drop):
        return FusedDropout(modules, operation, options.kernels), "dropouts"
    return FusedPooling(modules, options.kernels), "poolings"


# Channels, outputs, kernel, stride, pad and group of the examples: cuDNN has kernels of many kinds.
_EXAMPLES = ((16, 24, 3, 1, 1, 1), (8, 64, 7, 2, 3, 1), (32, 16, 1, 1, 0, 1), (16, 32, 5, 1, 2, 2))


@cache
def convolution_in_one_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether cuDNN's operation gives what convolution, bias and ReLU give, on small examples.

    It must have the first one; a layer whose shape it lacks is computed without it.
    """
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        made = torch.randn(shape, generator=generator).to(device, dtype)
        return made.contiguous(memory_format=torch.channels_last) if made.dim() == 4 else made

    found = []
    for channels, outputs, kernel, stride, pad, group in _EXAMPLES:
        x, bias = random(2, channels, 9, 7), random(outputs)
        weight = random(outputs, channels // group, kernel, kernel)
        settings = ((stride, stride), (pad, pad), (1, 1), group)
        found.append(_works(x, weight, bias, settings))
    return found[0] is True and False not in found


def _works(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, settings: Any) -> bool | None:
    """Whether the operation is right for an example; None where cuDNN does not have it."""
    operator: Callable[..., torch.Tensor] = torch.cudnn_convolution_relu
    expected = torch.conv2d(x.float(), weight.float(), bias.float(), *settings).relu()
    # torch's allocator gives this memory to the result, which must not be read: cuDNN's operation
    # can also add what is there already.
    spoilt = expected.to(x.dtype).fill_(math.nan)
    del spoilt
    try:
        found = operator(x, weight, bias, *settings)
        again = operator(x, weight, bias, *settings)
    except RuntimeError:
        return None
    near = torch.allclose(found.float(), expected, rtol=0.02, atol=0.1)
    # Else a training that has diverged would go on with zeros.
    x = x.clone()
    x[0] = math.nan
    kept = operator(x, weight, bias, *settings)
    keeps_nan = bool(kept[0].isnan().all()) and not bool(kept[1].isnan().any())
    return near and torch.equal(found, again) and keeps_nan
