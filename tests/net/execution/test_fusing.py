"""Fused layers beside the layers themselves, in 16 bits on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from caffecompat.net import Net
from caffecompat.net.execution.gpu.fusing import (
    Fused,
    FusingOptions,
    convolution_in_one_works,
    fuse,
)
from caffecompat.net.execution.precision import arithmetic
from caffecompat.net.kernels.choice import TORCH_OPERATORS, Kernels
from caffecompat.proto.text.parser import parse_text
from tests.net.execution.small_nets import convolution, layer, net_of, pass_of, pooling
from tests.net.kernels.devices import INTERPRETED, mend_interpreter
from tests.solver.log.caffe_log import Lines

# A column of the paper in small: planes of odd extents, pooled with cut windows.
COLUMN = (
    convolution("conv1", "data", "conv1", "pad: 1")
    + layer("ReLU", "conv1", "conv1")
    + convolution("conv2", "conv1", "conv2", "pad: 1 group: 2")
    + layer("ReLU", "conv2", "conv2")
    + pooling("conv2", "pool2")
    + convolution("conv3", "pool2", "conv3", "stride: 2 dilation: 2 pad: 2")
    + layer("ReLU", "conv3", "relu3")
    + pooling("relu3", "pool3", "kernel_size: 3 stride: 3 pad: 1")
    + layer("Dropout", "pool3", "top")
)


def fused_net(layers: str, kernels: Kernels = TORCH_OPERATORS) -> tuple[Net, Fused]:
    net = net_of(layers)
    return net, fuse(net.program(), FusingOptions(kernels, everything=True))


def check_equal(net: Net, plain: Net, precision: str) -> None:
    """Losses and the gradients of weights are equal; those of biases are summed in fp32."""
    (loss, ours), (expected, theirs) = pass_of(net, precision), pass_of(plain, precision)
    assert torch.equal(loss, expected)
    for entry, found, wanted in zip(net.learnable, ours, theirs, strict=True):
        if entry.index == 0:
            assert torch.equal(found, wanted), entry.layer
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_values_and_gradients(precision: str) -> None:
    net, done = fused_net(COLUMN)
    assert done == Fused(convolutions=2, halved=1, poolings=1, dropouts=1)
    check_equal(net, net_of(COLUMN), precision)
    for a, b in zip(pass_of(net)[1], pass_of(net_of(COLUMN))[1], strict=True):
        assert not a.isnan().any()
        assert a.shape == b.shape


@pytest.mark.skipif(not INTERPRETED, reason="needs triton's interpreter")
def test_by_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    mend_interpreter(monkeypatch)
    net, _ = fused_net(COLUMN, Kernels.every())
    check_equal(net, net_of(COLUMN), "bf16")


def test_bias_gradients_are_sums_in_fp32() -> None:
    """Nearer to the sum in fp64 of the same gradients than 16 bits can be."""
    net, _ = fused_net(COLUMN)
    passed: list[torch.Tensor] = []
    found = [m for m in net.program().module.modules() if type(m).__name__ == "FusedConvolution"]

    def watch(module: Any, bottoms: Any, top: torch.Tensor) -> None:
        if top.requires_grad:
            top.register_hook(passed.append)

    found[0].register_forward_hook(watch)
    bias = pass_of(net)[1][1]
    (gradient,) = passed
    # conv1's top is positive exactly where the gradient passes.
    with arithmetic(net.device, "bf16"), torch.no_grad():
        top = found[0](net.blobs["data"].data)
    exact = gradient.double().masked_fill(top <= 0, 0).sum((0, 2, 3))
    torch.testing.assert_close(bias.double(), exact, rtol=1e-5, atol=1e-6)


def unfused(layers: str) -> list[str]:
    """Types of the layers that are still modules of the program of their own."""
    net, _ = fused_net(layers)
    module = net.program().module
    nodes = [node for node in module.graph.nodes if node.op == "call_module"]
    kept = [module.get_submodule(str(node.target)) for node in nodes]
    return [m._get_name() for m in kept if not type(m).__name__.startswith("Fused")]


END = ["InnerProduct", "SoftmaxWithLoss"]
CONV = convolution("conv", "data", "conv")


@pytest.mark.parametrize(
    ("layers", "kept"),
    [
        (CONV + layer("ReLU", "conv", "top"), []),
        (CONV + layer("ReLU", "conv", "top", "relu_param { negative_slope: 0.1 }"), None),
        (CONV + layer("Sigmoid", "conv", "top"), None),
        (convolution("c", "data", "c", "bias_term: false") + layer("ReLU", "c", "top"), None),
        # The ReLU has another reader, which the pooling then is not alone.
        (
            CONV
            + layer("ReLU", "conv", "relu")
            + pooling("relu", "a")
            + pooling("relu", "b")
            + layer("Eltwise", "a", "top", 'bottom: "b"'),
            ["Eltwise"],
        ),
        # The convolution has another reader.
        (
            CONV
            + layer("ReLU", "conv", "relu")
            + layer("Eltwise", "conv", "top", 'bottom: "relu"'),
            ["Convolution", "ReLU", "Eltwise"],
        ),
        (CONV + layer("ReLU", "conv", "top", "propagate_down: false"), ["Convolution", "ReLU"]),
        (
            CONV + layer("ReLU", "conv", "a") + pooling("a", "top", "pool: AVE kernel_size: 2"),
            None,
        ),
    ],
)
def test_what_is_fused(layers: str, kept: Sequence[str] | None) -> None:
    if kept is None:
        types = [m.type for m in parse_text(layers, "NetParameter")[0].layer]
        kept = ["Pooling"] if types == ["Convolution", "ReLU", "Pooling"] else types
    assert unfused(layers) == [*kept, *END]


def test_outputs_and_losses_stay() -> None:
    """A top that is an output, or has a loss weight, is computed as such."""
    named = convolution("conv", "data", "conv") + layer("ReLU", "conv", "out")
    net = net_of(COLUMN, named)
    assert len(pass_of(net)[1]) == len(net.learnable) - 2
    before = net.loss.detach()
    assert net.blobs["out"].data.shape == (3, 8, 9, 11)
    fuse(net.program(), FusingOptions(TORCH_OPERATORS, everything=True))
    assert torch.equal(pass_of(net)[0], before)
    assert net.blobs["out"].data.shape == (3, 8, 9, 11)


def test_passes_in_fp32_are_not_touched() -> None:
    """Outside of autocast, and in other shapes than the definition's, the layers themselves run."""
    layers = CONV + layer("ReLU", "conv", "conv") + pooling("conv", "p", "global_pooling: true")
    layers += layer("Dropout", "p", "top")
    net, plain = fused_net(layers)[0], net_of(layers)
    for ours, theirs in zip(pass_of(net, "fp32")[1], pass_of(plain, "fp32")[1], strict=True):
        assert torch.equal(ours, theirs)
    for tried in (net, plain):
        tried.zero_grad()
        tried.blobs["data"].reshape(2, 4, 3, 4)
        tried.blobs["label"].reshape(2)
    assert torch.equal(pass_of(net)[0], pass_of(plain)[0])


def test_the_observed_program_stays() -> None:
    net, plain = fused_net(COLUMN)[0], net_of(COLUMN)
    net.forward()
    plain.forward()
    for name, blob in plain.blobs.items():
        assert torch.equal(net.blobs[name].data, blob.data)


def test_parameters_without_gradient() -> None:
    frozen = CONV.replace("convolution_param", "param { lr_mult: 0 } param { } convolution_param")
    layers = frozen + layer("ReLU", "conv", "conv") + pooling("conv", "top")
    net, plain = fused_net(layers)[0], net_of(layers)
    results: list[Any] = []
    for tried in (net, plain):
        with arithmetic(tried.device, "bf16"):
            loss = tried.run(0).loss
        loss.backward()
        weight, bias = tried.params["conv"]
        assert weight.grad is None
        results.append(bias.grad)
    torch.testing.assert_close(*results, rtol=0.02, atol=1e-3)


def test_a_convolution_that_cudnn_does_not_have(lines: Lines) -> None:
    """Here it has none; each layer says so once and goes on."""
    net, plain = net_of(COLUMN), net_of(COLUMN)
    done = fuse(net.program(), FusingOptions(TORCH_OPERATORS, convolution_in_one=True))
    assert done == Fused(convolutions=3)
    check_equal(net, plain, "bf16")
    assert not convolution_in_one_works(torch.device("cpu"), torch.bfloat16)
    if not torch.cuda.is_available():
        pass_of(net)
        told = lines.containing("fused without cuDNN")
        assert [line.partition(":")[0] for line in told] == [
            f"layer 'conv{i}' (Convolution)" for i in (1, 2, 3)
        ]


@pytest.mark.parametrize(
    ("fault", "works"),
    [
        ("", True),
        # Else the loss of a training that has diverged is finite, and nothing stops it.
        ("loses NaN", False),
        ("wrong for 7x7", False),
        ("has no groups", True),
        ("has no 3x3", False),
    ],
)
def test_the_trial_of_a_convolution_with_relu(
    fault: str, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_one(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *rest: Any) -> Any:
        kernel = weight.shape[2]
        if (fault, rest[3]) == ("has no groups", 2) or (fault, kernel) == ("has no 3x3", 3):
            raise RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")
        y = torch.conv2d(x, weight, bias, *rest)
        if (fault, kernel) == ("wrong for 7x7", 7):
            y = y + 1
        return y.nan_to_num(0.0).relu() if fault == "loses NaN" else y.relu()

    monkeypatch.setattr(torch, "cudnn_convolution_relu", in_one)
    found = convolution_in_one_works.__wrapped__(torch.device("cpu"), torch.bfloat16)
    assert found == works


def test_the_line_for_the_log() -> None:
    text = Fused(convolutions=8, halved=5, dropouts=2).sentence()
    expected = "8 convolution + ReLU, 5 convolution + ReLU + pooling, 2 dropout"
    assert text == f"Fused for the GPU: {expected}"
    assert Fused().sentence() == ""
