"""Blobs with their channels innermost in memory, and layers that are written for that order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from caffecompat.inference.torch_graph.graph import InferenceGraph
from caffecompat.layers.lrn import LRN


def use_channels_last(graph: InferenceGraph) -> str:
    """Brings inputs with four axes into channels-last order; returns the line about it."""
    for node in graph.nodes:
        if node.op != "placeholder":
            continue
        with graph.graph.inserting_after(node):
            ordered = graph.graph.call_function(channels_innermost, (node,))
        ordered.meta = dict(node.meta)
        node.replace_all_uses_with(ordered)
        ordered.args = (node,)
    rewritten = 0
    for node in graph.nodes:
        layer = graph.layer(node)
        if type(layer) is LRN and not layer.within:
            graph.set_module(node, ChannelsLastLrn(layer))
            rewritten += 1
    line = "keeps blobs with four axes in channels-last order"
    return f"{line}, with LRN written for it ({rewritten} layers)" if rewritten else line


def channels_innermost(x: torch.Tensor) -> torch.Tensor:
    """``x`` in channels-last order if it has four axes."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


class ChannelsLastLrn(nn.Module):
    """LRN across channels, as sums of shifted rows of channels."""

    def __init__(self, layer: LRN) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        if x.dim() != 4 or x.dtype != torch.float32:
            y: torch.Tensor = layer.forward(x.float())
            return y
        rows = x.permute(0, 2, 3, 1)
        share = self._sums(rows).mul_(layer.alpha / layer.size).add_(layer.k)
        # (k + share) ^ -3/4 of positive numbers by square roots, a quarter of the time of a power.
        if layer.beta == 0.75 and layer.alpha >= 0 and layer.k > 0:
            root = share.rsqrt_()
            factor = root.sqrt().mul_(root)
        else:
            factor = share.pow_(-layer.beta)
        return factor.mul_(rows).permute(0, 3, 1, 2)

    def _sums(self, rows: torch.Tensor) -> torch.Tensor:
        """Sums of squares over ``size`` channels around each, (N, H, W, C)."""
        channels, margin = rows.shape[3], self.layer.size // 2
        square = F.pad(rows * rows, (margin, margin))
        # Sums over 1, 2, 4 ... channels make up those over any number.
        total: torch.Tensor | None = None
        span, start, left = 1, 0, self.layer.size
        while left:
            if left & 1:
                part = square.narrow(3, start, channels)
                total = part.clone() if total is None else total.add_(part)
                start += span
            left >>= 1
            if left:
                length = square.shape[3] - span
                square = square.narrow(3, 0, length) + square.narrow(3, span, length)
                span *= 2
        assert total is not None
        return total
