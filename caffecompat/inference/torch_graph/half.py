"""Passes in 16 bits, with weights that are converted once."""

from __future__ import annotations

import torch
from torch import fx, nn

from caffecompat.inference.torch_graph.graph import InferenceGraph
from caffecompat.layers.concat import Concat
from caffecompat.layers.convolution import BaseConvolution
from caffecompat.layers.eltwise import Eltwise
from caffecompat.layers.flatten import Flatten
from caffecompat.layers.inner_product import InnerProduct
from caffecompat.layers.pooling import Pooling
from caffecompat.layers.relu import ReLU
from caffecompat.layers.reshape import Reshape
from caffecompat.layers.slice import Slice
from caffecompat.net.execution.precision import HALVES

# What loses nothing in 16 bits beside the convolutions; all other layers work in single precision.
_IN_HALF = (BaseConvolution, InnerProduct, ReLU, Pooling, Concat, Eltwise, Slice, Flatten, Reshape)


def multiplies_halves(kind: torch.dtype, device: torch.device) -> bool:
    """Whether a processor multiplies numbers of 16 bits itself, so that they save time."""
    if device.type != "cpu":
        return True
    operators = torch.ops.mkldnn
    if kind == torch.bfloat16:
        return bool(operators._is_mkldnn_bf16_supported())
    return bool(operators._is_mkldnn_fp16_supported())


def advice_against(precision: str) -> str:
    """Why passes on the CPU may take longer in a precision than in fp32; else empty.

    AMX multiplies matrices of bf16 on all processors that have it, and of fp16 on few.
    """
    names = ("_is_amx_tile_supported", "_is_amx_fp16_supported")
    tiles, of_fp16 = (getattr(torch.cpu, name, None) for name in names)
    if precision != "fp16" or tiles is None or of_fp16 is None or not tiles() or of_fp16():
        return ""
    return "this processor's AMX is for bf16, which is faster; fp16 may be slower than fp32"


def use_half(graph: InferenceGraph, precision: str) -> tuple[str, str]:
    """Converts weights to 16 bits; returns the precision that passes have, and the line about it.

    Products take 16 bits and add up in 32. Losses, normalisations, probabilities and all types
    that are not known to lose nothing work in single precision, and so are the outputs.
    """
    kind = HALVES.get(precision)
    if kind is None:
        return precision, ""
    if not multiplies_halves(kind, graph.device):
        return (
            "fp32",
            f"{precision}: this processor has no products of such numbers, which would take longer "
            "here; passes are in fp32",
        )
    converted = 0
    for node in graph.nodes:
        weighted = graph.weighted(node)
        if weighted is not None:
            bias = weighted.bias
            weighted.set_values(
                weighted.weight.to(kind), bias.to(kind) if bias is not None else None
            )
            graph.set_module(node, weighted)
            converted += 1
        elif node.op == "call_module" and not isinstance(graph.layer(node), _IN_HALF):
            module = graph.module_of(node)
            assert module is not None
            graph.set_module(node, Widened(module))
    _widen_outputs(graph)
    line = f"{precision}: converted the weights of {converted} layers"
    advice = advice_against(precision) if graph.device.type == "cpu" else ""
    return precision, "; ".join(filter(None, [line, advice]))


def _widen_outputs(graph: InferenceGraph) -> None:
    (output,) = (node for node in graph.nodes if node.op == "output")
    with graph.graph.inserting_before(output):
        output.args = fx.map_arg(
            output.args, lambda node: graph.graph.call_function(widened, (node,))
        )


def widened(x: torch.Tensor) -> torch.Tensor:
    """``x`` in single precision if it has 16 bits."""
    return x.float() if x.dtype in HALVES.values() else x


class Widened(nn.Module):
    """A layer that works in single precision."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *bottoms: torch.Tensor) -> object:
        return self.module(*(widened(bottom) for bottom in bottoms))
