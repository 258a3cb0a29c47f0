"""torchvision's GoogLeNet: batch normalisation behind each convolution, 3x3 in place of 5x5."""

from __future__ import annotations

from collections.abc import Iterator

from caffecompat.export.layouts.base import Architecture, Builder, Operation, layouts

EPS = 0.001
MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
# Kernel and stride of the pooling in front of a module.
POOLED = {"3a": (3, 2), "4a": (3, 2), "5a": (2, 2)}


@layouts.register("googlenet")
def architectures() -> Iterator[Architecture]:
    net = Builder()
    x = _conv(net, net.input(), "conv1", 7, 2)
    x = net.max_pool(x, 3, 2, ceil=True)
    x = _conv(net, _conv(net, x, "conv2", 1), "conv3", 3)
    for name in MODULES:
        if name in POOLED:
            kernel, stride = POOLED[name]
            x = net.max_pool(x, kernel, stride, ceil=True)
        x = _inception(net, x, f"inception{name}")
    yield Architecture("googlenet", net.linear(net.mean_pool(x), "fc"))


def _conv(net: Builder, x: Operation, name: str, kernel: int, stride: int = 1) -> Operation:
    x = net.conv(x, f"{name}.conv", kernel, stride, kernel // 2, bias=False)
    return net.relu(net.norm(x, f"{name}.bn", EPS))


def _inception(net: Builder, x: Operation, name: str) -> Operation:
    return net.concat(
        _conv(net, x, f"{name}.branch1", 1),
        _conv(net, _conv(net, x, f"{name}.branch2.0", 1), f"{name}.branch2.1", 3),
        _conv(net, _conv(net, x, f"{name}.branch3.0", 1), f"{name}.branch3.1", 3),
        _conv(net, net.max_pool(x, 3, 1, 1, ceil=True), f"{name}.branch4.1", 1),
    )
