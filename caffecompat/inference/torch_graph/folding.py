"""BatchNorm, Scale and Bias in the weights of the layer before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import fx

from caffecompat.export.channel_affine import ChannelAffine, normalisation, scaled, with_affine
from caffecompat.inference.torch_graph.graph import InferenceGraph
from caffecompat.inference.torch_graph.weighted import Weighted
from caffecompat.layers._base import CHANNEL_AXIS
from caffecompat.layers.batch_norm import BatchNorm
from caffecompat.layers.bias import Bias
from caffecompat.layers.convolution import BaseConvolution
from caffecompat.layers.scale import Scale
from caffecompat.net.built_layer import BuiltLayer


def fold(graph: InferenceGraph) -> str:
    """Folds what can be folded; returns the line about it.

    The products are those of ``convert --fold-batch-norm``, in double precision.
    """
    folded, into = 0, set()
    for node in graph.nodes:
        built = graph.built(node)
        if built is None or not built.shapes or len(node.args) != 1:
            continue
        bottom = node.args[0]
        target = graph.weighted(bottom)
        if target is None or not isinstance(bottom, fx.Node) or len(bottom.users) > 1:
            continue
        axes = len(built.shapes[0])
        affine = channel_affine(built, axes)
        if affine is None or target.changed or not _along_channels(target, axes):
            continue
        _take_in(target, affine)
        target.names.append(built.name)
        graph.set_module(bottom, target)
        graph.bypass(node, bottom)
        folded += 1
        into.add(bottom.name)
    if not folded:
        return ""
    return f"folded {folded} layers (BatchNorm, Scale, Bias) into the weights of {len(into)} layers"


def channel_affine(built: BuiltLayer, axes: int) -> ChannelAffine | None:
    """The factor and summand per channel (axis 1) that a layer applies; None for other layers.

    Args:
        axes: how many axes its bottom has.
    """
    layer, module = built.layer, built.module
    if module is None:
        return None
    values = [blob.detach().cpu().numpy().astype(np.float64) for blob in module.blobs()]
    if type(layer) is BatchNorm:
        if not layer.use_statistics or layer.eps_outside:
            return None
        return normalisation(values, layer.eps)
    if type(layer) not in (Scale, Bias) or len(built.bottoms) != 1:
        return None
    assert isinstance(layer, (Scale, Bias))
    if layer.first != CHANNEL_AXIS or values[0].ndim != 1 or axes <= CHANNEL_AXIS:
        return None
    nothing = ChannelAffine(np.ones_like(values[0]), np.zeros_like(values[0]))
    if type(layer) is Bias:
        return replace(nothing, summand=values[0])
    return scaled(nothing, values)


def _along_channels(target: Weighted, axes: int) -> bool:
    """Whether the outputs of a layer stand along axis 1 of its top."""
    layer = target.layer
    if isinstance(layer, BaseConvolution):
        return layer.geometry.channel_axis == CHANNEL_AXIS
    return layer.first == CHANNEL_AXIS and axes == CHANNEL_AXIS + 1


def _take_in(target: Weighted, affine: ChannelAffine) -> None:
    old = [target.weight] if target.bias is None else [target.weight, target.bias]
    values = [value.cpu().numpy().astype(np.float64) for value in old]
    weight, bias = (
        torch.from_numpy(value.astype(np.float32)).to(target.weight.device)
        for value in with_affine(target.built.node.message, values, affine)
    )
    target.set_values(weight, bias)
