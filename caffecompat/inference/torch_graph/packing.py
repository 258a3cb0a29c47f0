"""Convolutions and inner products in the kernels of oneDNN, with weights in their order."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from caffecompat.inference.torch_graph.graph import InferenceGraph
from caffecompat.inference.torch_graph.one_by_one import OneByOneConvolution
from caffecompat.inference.torch_graph.one_by_one import saves_time as product_saves_time
from caffecompat.inference.torch_graph.single_threads import SingleThreads
from caffecompat.inference.torch_graph.weighted import Weighted, check_terms, is_convolution
from caffecompat.inference.torch_graph.winograd import WinogradConvolution
from caffecompat.inference.torch_graph.winograd import saves_time as winograd_saves_time
from caffecompat.layers import Shape
from caffecompat.layers._base import CHANNEL_AXIS
from caffecompat.layers.convolution import Convolution
from caffecompat.layers.inner_product import InnerProduct

# torch binds oneDNN's kernels with fused activations, and its own compiler uses them.
_onednn: Any = torch.ops.mkldnn

# Padding, stride, dilation and groups of a convolution that is a product at each position.
_ONE_BY_ONE = ([0, 0], [1, 1], [1, 1], 1)


def pack(graph: InferenceGraph, winograd: bool) -> str:
    """Packs all that oneDNN has kernels for, on the CPU; returns the line about it.

    Args:
        winograd: compute large 3x3 convolutions in Winograd's way.
    """
    if graph.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return ""
    convolutions = products = 0
    threads = SingleThreads() if winograd else None
    for node in graph.nodes:
        weighted = graph.weighted(node)
        if weighted is None:
            continue
        if _is_packable(weighted):
            graph.set_module(node, _convolution(graph, node, weighted, threads))
            convolutions += 1
        elif isinstance(weighted.layer, InnerProduct):
            graph.set_module(node, PackedInnerProduct(weighted))
            products += 1
    if not convolutions + products:
        return ""
    modules = [graph.module_of(node) for node in graph.nodes]
    line = f"packed the weights of {convolutions} convolutions and {products} inner products"
    parts = [
        f"{count} {what}"
        for kind, what in (
            (OneByOneConvolution, "of 1x1 as matrix products"),
            (WinogradConvolution, "of 3x3 in Winograd's way"),
        )
        if (count := sum(isinstance(module, kind) for module in modules))
    ]
    return f"{line} ({', '.join(parts)})" if parts else line


def _convolution(
    graph: InferenceGraph, node: fx.Node, weighted: Weighted, threads: SingleThreads | None
) -> nn.Module:
    bottom = node.args[0]
    shape = graph.shape(bottom) if isinstance(bottom, fx.Node) else None
    if threads is not None and winograd_saves_time(weighted, shape):
        return WinogradConvolution(weighted, threads)
    if product_saves_time(weighted, shape, graph.shape(node)):
        return OneByOneConvolution(weighted)
    return PackedConvolution(weighted, shape)


def _is_packable(weighted: Weighted) -> bool:
    layer = weighted.layer
    if not isinstance(layer, Convolution) or not is_convolution(layer):
        return False
    g = layer.geometry
    plain = g.axes == 2 and g.channel_axis == CHANNEL_AXIS
    return plain and weighted.weight.dtype in (torch.float32, torch.bfloat16, torch.float16)


class PackedConvolution(nn.Module):
    """activation(convolution(x) + other) over two spatial axes.

    Args:
        weighted: what it computes.
        shape: of the bottoms that it will run with most; None if unknown.
    """

    def __init__(self, weighted: Weighted, shape: Shape | None) -> None:
        super().__init__()
        layer = weighted.layer
        assert isinstance(layer, Convolution)
        self._layer = layer
        g = layer.geometry
        self._window = (list(g.pad), list(g.stride), list(g.dilation), layer.group)
        self._kind = weighted.weight.dtype
        sizes = list(shape) if shape is not None and len(shape) == 4 else None
        self._weight = _onednn._reorder_convolution_weight(
            weighted.weight.contiguous(), *self._window, sizes
        )
        self._bias = weighted.bias
        activation = weighted.activation
        self._name = activation.name if activation else "none"
        self._settings = list(activation.settings) if activation else []
        self._sum_name = activation.name if activation else None
        self._margins: list[int] = []
        self._seen: torch.Size | None = None
        # The shape of the top for bottoms like the last one.
        self._top: torch.Size | None = None
        self.names = weighted.names
        self._one = _onednn._convolution_pointwise.default
        self._two = _onednn._convolution_pointwise.binary

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        if x.shape != self._seen:
            self._look_at(x)
        if self._margins:
            x = F.pad(x, self._margins)
        if x.dtype != self._kind:
            x = x.to(self._kind)
        pad, stride, dilation, group = self._window
        if other is None:
            y: torch.Tensor = self._one(
                x,
                self._weight,
                self._bias,
                *(pad, stride, dilation, group),
                *(self._name, self._settings, ""),
            )
            return y
        assert self._top is not None
        check_terms(self._top, other.shape)
        form = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else None
        other = other.to(self._kind)
        other = other.contiguous(memory_format=form or torch.contiguous_format)
        z: torch.Tensor = self._two(
            *(x, other, self._weight, self._bias, pad, stride, dilation, group),
            *("add", 1.0, self._sum_name, self._settings, ""),
        )
        return z

    def _look_at(self, x: torch.Tensor) -> None:
        """Checks bottoms of a new shape, and finds the padding that they need."""
        self._layer._check_shapes([x.shape])
        g = self._layer.geometry
        sides = [pad for side in reversed(g.sides) for pad in side] if g.sides else [0] * 4
        padded = x if g.sides is None else F.pad(x, sides)
        more = g.extra_padding(self._layer, padded.shape)
        margins = [
            sides[2 * i + j] + (extra if j else 0)
            for i, extra in enumerate(reversed(more))
            for j in (0, 1)
        ]
        self._margins = margins if any(margins) else []
        self._top = torch.Size((x.shape[0], self._layer.outputs, *self._top_extents(x, margins)))
        self._seen = x.shape

    def _top_extents(self, x: torch.Tensor, margins: list[int]) -> list[int]:
        """Height and width of the top; ``margins`` are those of the last axis first."""
        g = self._layer.geometry
        return [
            (size + sum(margins[2 * (1 - i) :][:2]) + 2 * pad - extent) // stride + 1
            for i, (size, pad, extent, stride) in enumerate(
                zip(x.shape[2:], g.pad, g.kernel_extent, g.stride, strict=True)
            )
        ]

    def extra_repr(self) -> str:
        return ", ".join(self.names)


class PackedInnerProduct(nn.Module):
    """activation(W x + b).

    A single row is a product of matrix and vector, which reads the weight once in any order.
    Several rows are faster as a 1x1 convolution over one line of an image, whose kernels read
    packed weights; they are packed when several rows first come.
    """

    def __init__(self, weighted: Weighted) -> None:
        super().__init__()
        self._weighted = weighted
        self._packed: torch.Tensor | None = None
        activation = weighted.activation
        self._name = activation.name if activation else "none"
        self._settings = list(activation.settings) if activation else []
        self._run = _onednn._convolution_pointwise.default
        self.names = weighted.names

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weighted = self._weighted
        layer = weighted.layer
        assert isinstance(layer, InnerProduct)
        outer = x.shape[: layer.first]
        rows = outer.numel()
        fits = x.shape[layer.first :].numel() == layer.inputs
        if rows < 2 or layer.least_axes > 0 or not fits:
            y: torch.Tensor = weighted(x)
            return y
        weight = self._weight(rows)
        line = x.reshape(1, 1, rows, layer.inputs).to(weighted.weight.dtype).permute(0, 3, 1, 2)
        z: torch.Tensor = self._run(
            *(line, weight, weighted.bias, *_ONE_BY_ONE, self._name, self._settings, "")
        )
        return z.permute(0, 2, 3, 1).reshape(*outer, -1)

    def _weight(self, rows: int) -> torch.Tensor:
        if self._packed is None:
            weighted = self._weighted
            assert isinstance(weighted.layer, InnerProduct)
            weight = weighted.weight.t() if weighted.layer.transpose else weighted.weight
            outputs, inputs = weight.shape
            self._packed = _onednn._reorder_convolution_weight(
                weight.reshape(outputs, inputs, 1, 1).contiguous(),
                *(*_ONE_BY_ONE, [1, inputs, 1, rows]),
            )
        return self._packed

    def extra_repr(self) -> str:
        return ", ".join(self.names)
