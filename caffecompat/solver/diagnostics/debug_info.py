"""``debug_info``: mean absolute values of all blobs and gradients, in Caffe's log lines."""

from __future__ import annotations

import logging
from math import prod

import torch

from caffecompat.net import Net, Result, Stepper
from caffecompat.net.backward_needs import asked_needs
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.reporting.glog import number


class DebugPass:
    """Runs passes layer by layer and logs the mean absolute values of their blobs.

    Lines and their order are those of Caffe's ``Net::ForwardDebugInfo`` and ``BackwardDebugInfo``.
    A pass computes the same values as the net's program.
    """

    def __init__(self, net: Net, log: logging.Logger) -> None:
        self._net = net
        self._log = log
        self._stepper = Stepper(net)
        self._needs = asked_needs(net.layers, net.graph.force_backward)
        self._names = {
            (built.name, j): param.name
            for built in net.layers
            for j, param in enumerate(built.node.message.param)
        }

    def forward(self, index: int) -> Result:
        """Runs pass number ``index``; :meth:`backward` computes its gradients, not the loss."""
        self._stepper.begin(index)
        for i, built in enumerate(self._net.layers):
            tops = self._stepper.forward_layer(i)
            where = f"    [Forward] Layer {built.name}"
            for version, top in zip(built.tops, tops, strict=False):
                self._log.info(f"{where}, top blob {version.blob} data: {_mean(top)}")
            for j, blob in enumerate(_blobs(built)):
                name = self._names.get((built.name, j)) or j
                self._log.info(f"{where}, param blob {name} data: {_mean(blob)}")
        loss = torch.tensor(self._stepper.loss, device=self._net.device)
        return Result(self._stepper.outputs(), loss)

    def backward(self) -> None:
        """The backward pass of the last :meth:`forward`; gradients add up in ``.grad``."""
        for i in reversed(range(len(self._net.layers))):
            self._backward_layer(i, self._net.layers[i])
        self._report_all()

    def _backward_layer(self, i: int, built: BuiltLayer) -> None:
        self._stepper.backward_layer(i)
        if not self._needs.layers[i]:
            return
        where = f"    [Backward] Layer {built.name}"
        for version, needed in zip(built.bottoms, self._needs.bottoms[i], strict=True):
            if needed:
                gradient = self._stepper.gradients.get(version)
                self._log.info(f"{where}, bottom blob {version.blob} diff: {_mean(gradient)}")
        forced = self._net.graph.force_backward
        for j, blob in enumerate(_blobs(built)):
            if forced or _is_given_a_rate(built, j):
                self._log.info(f"{where}, param blob {j} diff: {_mean(blob.grad)}")

    def _report_all(self) -> None:
        values = [entry.tensor.detach() for entry in self._net.learnable]
        gradients = [entry.tensor.grad for entry in self._net.learnable]
        present = [gradient for gradient in gradients if gradient is not None]
        (data1, data2), (diff1, diff2) = _norms(values), _norms(present)
        self._log.error(
            f"    [Backward] All net params (data, diff): L1 norm = ({data1}, {diff1}); "
            f"L2 norm = ({data2}, {diff2})"
        )


def _blobs(built: BuiltLayer) -> list[torch.Tensor]:
    return built.module.blobs() if built.module is not None else []


def _is_given_a_rate(built: BuiltLayer, index: int) -> bool:
    """Whether the definition's ``lr_mult`` is not 0; Caffe asks it also for statistics."""
    params = built.node.message.param
    return index >= len(params) or bool(params[index].lr_mult != 0)


def _mean(tensor: torch.Tensor | None) -> str:
    """The mean absolute value, 0 for a blob without elements and for a gradient of zeros, None."""
    if tensor is None:
        return "0"
    count = max(prod(tensor.shape), 1)
    return number(float(tensor.detach().float().abs().sum()) / count)


def _norms(tensors: list[torch.Tensor]) -> tuple[str, str]:
    flat = [tensor.float().flatten() for tensor in tensors]
    absolute = sum(float(t.abs().sum()) for t in flat)
    square = sum(float(t.square().sum()) for t in flat)
    return number(absolute), number(square**0.5)
