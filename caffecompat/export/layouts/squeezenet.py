"""torchvision's SqueezeNet 1.0 and 1.1."""

from __future__ import annotations

from collections.abc import Iterator

from caffecompat.export.layouts.base import Architecture, Builder, Operation, layouts

# Fire modules (F) and poolings (P) behind the first convolution, ReLU and pooling.
MODULES = {"squeezenet1_0": "FFFPFFFFPF", "squeezenet1_1": "FFPFFPFFFF"}
FIRST_KERNEL = {"squeezenet1_0": 7, "squeezenet1_1": 3}
FIRST_MODULE = 3


@layouts.register("squeezenet")
def architectures() -> Iterator[Architecture]:
    for name, modules in MODULES.items():
        net = Builder()
        x = net.relu(net.conv(net.input(), "features.0", FIRST_KERNEL[name], 2))
        x = net.max_pool(x, 3, 2, ceil=True)
        for index, module in enumerate(modules, FIRST_MODULE):
            if module == "F":
                x = _fire(net, x, f"features.{index}")
            else:
                x = net.max_pool(x, 3, 2, ceil=True)
        yield Architecture(name, net.mean_pool(net.relu(net.conv(x, "classifier.1", 1))))


def _fire(net: Builder, x: Operation, name: str) -> Operation:
    x = net.relu(net.conv(x, f"{name}.squeeze", 1))
    one = net.relu(net.conv(x, f"{name}.expand1x1", 1))
    three = net.relu(net.conv(x, f"{name}.expand3x3", 3, pad=1))
    return net.concat(one, three)
