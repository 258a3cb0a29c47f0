"""The benchmark of a net: forward and backward time of each layer."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from caffecompat.errors import SolverError
from caffecompat.net import Net, Stepper
from caffecompat.net.backward_needs import backward_needs
from caffecompat.reporting.activity import Activity, heartbeat
from caffecompat.reporting.glog import LOGGER, number
from caffecompat.solver.setup.compute import ComputeOptions


def measure(net: Net, passes: int, compute: ComputeOptions | None = None) -> None:
    """Runs ``passes`` forward and backward passes layer by layer and logs Caffe's lines.

    Times are in milliseconds; on a GPU the host waits for each layer. As in Caffe (``time`` in
    tools/caffe.cpp) a layer runs backward for its parameters also where no loss depends on it, as
    in a deploy net, and for its bottoms where the net needs their gradients.

    Raises:
        SolverError: ``passes`` is not positive.
    """
    if passes < 1:
        raise SolverError(f"--iterations is {passes}, it must be positive")
    compute = compute or ComputeOptions()
    compute.prepare(net, train=False)
    activity = Activity()
    with compute.whole_pass(), heartbeat(activity, LOGGER):
        _measure(net, passes, compute, activity)


def _measure(net: Net, passes: int, compute: ComputeOptions, activity: Activity) -> None:
    needs = backward_needs(net.layers, net.graph.force_backward)
    stepper = Stepper(net, needs.bottoms)
    layers = range(len(net.layers))
    LOGGER.info("Performing Forward")
    stepper.begin(0)
    activity.begin("the first forward pass")
    with compute.forward(net.device):
        for i in layers:
            activity.layer = f"layer {net.layers[i].name!r}"
            stepper.forward_layer(i)
    LOGGER.info(f"Initial loss: {number(stepper.loss)}")
    LOGGER.info("Performing Backward")
    activity.begin("the first backward pass")
    for i in reversed(layers):
        activity.layer = f"layer {net.layers[i].name!r}"
        _enter(stepper, i)
        stepper.backward_layer(i)
    LOGGER.info("*** Benchmark begins ***")
    LOGGER.info(f"Testing for {passes} iterations.")
    forward, backward = [0.0 for _ in layers], [0.0 for _ in layers]
    started = time.perf_counter()
    for index in range(1, passes + 1):
        activity.begin("iteration", index)
        spent = _measure_pass(stepper, index, forward, backward, compute, net.device)
        net.zero_grad(set_to_none=False)
        LOGGER.info(f"Iteration: {index} forward-backward time: {number(spent)} ms.")
    activity.end()
    total = 1000 * (time.perf_counter() - started)
    _report(net, passes, forward, backward, total)


def _measure_pass(
    stepper: Stepper,
    index: int,
    forward: list[float],
    backward: list[float],
    compute: ComputeOptions,
    device: torch.device,
) -> float:
    """Adds the times of one pass to those of the layers; returns the time of all, in ms."""
    started = time.perf_counter()
    stepper.begin(index)
    with compute.forward(device):
        for i in range(len(forward)):
            forward[i] += _milliseconds(stepper.forward_layer, i, device)
    for i in reversed(range(len(backward))):
        _enter(stepper, i)
        backward[i] += _milliseconds(stepper.backward_layer, i, device)
    return 1000 * (time.perf_counter() - started)


def _enter(stepper: Stepper, layer: int) -> None:
    """Lets the backward pass begin at a layer that computes gradients and that none has reached."""
    module = stepper.net.layers[layer].module
    learns = module is not None and any(p.requires_grad for p in module.parameters())
    if learns or any(stepper.wanted[layer]):
        stepper.start_from_zeros(layer)


def _milliseconds(work: Callable[[int], object], layer: int, device: torch.device) -> float:
    started = time.perf_counter()
    work(layer)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)


def _report(
    net: Net, passes: int, forward: list[float], backward: list[float], total: float
) -> None:
    LOGGER.info("Average time per layer: ")
    for layer, ahead, back in zip(net.layers, forward, backward, strict=True):
        LOGGER.info(f"{layer.name:>10}\tforward: {number(ahead / passes)} ms.")
        LOGGER.info(f"{layer.name:>10}\tbackward: {number(back / passes)} ms.")
    LOGGER.info(f"Average Forward pass: {number(sum(forward) / passes)} ms.")
    LOGGER.info(f"Average Backward pass: {number(sum(backward) / passes)} ms.")
    LOGGER.info(f"Average Forward-Backward: {number(total / passes)} ms.")
    LOGGER.info(f"Total Time: {number(total)} ms.")
    LOGGER.info("*** Benchmark ends ***")
