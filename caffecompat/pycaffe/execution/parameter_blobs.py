"""The parameters of a net's layers as blobs, and their sharing between nets."""

from __future__ import annotations

import torch
from torch import nn

from caffecompat.errors import WeightsError
from caffecompat.layers.python import Python
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.module import LayerModule
from caffecompat.pycaffe.blob import Blob
from caffecompat.pycaffe.execution.blob_memory import (
    Memory,
    ParameterMemory,
    Views,
    parameter_data,
    parameter_diff,
)
from caffecompat.weights import Weights


def parameter_blobs(net: Net, views: Views) -> list[list[Blob]]:
    """The parameters of each layer, in Caffe's order; the user code of Python layers gets them."""
    found = [_blobs_of(built, views, net.device) for built in net.layers]
    for built, blobs in zip(net.layers, found, strict=True):
        if isinstance(built.layer, Python):
            built.layer.user.blobs[:] = blobs
    return found


def _blobs_of(built: BuiltLayer, views: Views, device: torch.device) -> list[Blob]:
    if built.module is None:
        return []
    return [_blob(built, built.module, j, views, device) for j in range(len(built.uses))]


def _blob(
    built: BuiltLayer, module: LayerModule, j: int, views: Views, device: torch.device
) -> Blob:
    spec = module.layer.specs[j]
    name = f"parameter {j} of layer {built.name!r}"

    def data() -> torch.Tensor:
        return parameter_data(module.blobs()[j], spec.shape)

    def diff() -> torch.Tensor:
        return parameter_diff(module.blobs()[j], spec.shape)

    of_diff = f"diff of {name}"
    values = ParameterMemory(name, spec.shape, views, device, data)
    if not spec.learned:
        return Blob(name, values, Memory(of_diff, spec.shape, views, device))
    return Blob(name, values, ParameterMemory(of_diff, spec.shape, views, device, diff, True))


def clear_diffs(net: Net) -> None:
    """Sets the gradients of all parameters to zero, in their memory."""
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()


def take_diffs(weights: Weights, names: list[str], blobs: list[list[Blob]]) -> None:
    """Copies the gradients of a caffemodel, which ``snapshot_diff: true`` writes.

    As in Caffe, which reads them with the values; those of HDF5 files it leaves alone.

    Args:
        weights: a file whose layers fit.
        names, blobs: the layers of the net, and the parameters of each.
    """
    if not weights.format.startswith("caffemodel"):
        return
    for layer in weights.layers:
        if layer.diffs and layer.name in names:
            for blob, diff in zip(blobs[names.index(layer.name)], layer.diffs, strict=False):
                blob.diff[...] = diff.reshape(blob.shape)


def share_data(net: Net, other: Net) -> None:
    """Makes layers use the values of the parameters of the layers of ``other`` with their names.

    The nets keep gradients of their own, as with Caffe's ShareTrainedLayersWith.

    Raises:
        WeightsError: layers with the same name have parameters of different shapes.
    """
    theirs = {built.name: built.module for built in reversed(other.layers) if built.module}
    pairs = [(b, b.module, theirs[b.name]) for b in net.layers if b.module and b.name in theirs]
    for built, module, source in pairs:
        shapes = [[spec.shape for spec in m.layer.specs] for m in (module, source)]
        if shapes[0] != shapes[1]:
            raise WeightsError(
                f"{built.place}: its parameters are {shapes[0]}, those of the net whose weights "
                f"are shared are {shapes[1]}"
            )
    for _, module, source in pairs:
        _share_module(module, source)


def _share_module(module: LayerModule, source: LayerModule) -> None:
    for spec, own, value in zip(module.layer.specs, module.blobs(), source.blobs(), strict=True):
        if not isinstance(own, nn.Parameter):
            module.set_parameter(spec, value, trains=False)
        elif own is value:
            parameter = nn.Parameter(value.detach(), requires_grad=own.requires_grad)
            module.set_parameter(spec, parameter, trains=own.requires_grad)
        else:
            own.data = value.detach()
