"""torchvision's ResNets, whose blocks of three convolutions have their stride in the second."""

from __future__ import annotations

from collections.abc import Iterator

from caffecompat.export.layouts.base import Architecture, Builder, Operation, layouts

BASIC, BOTTLENECK = False, True
BLOCKS = {
    "resnet18": (BASIC, (2, 2, 2, 2)),
    "resnet34": (BASIC, (3, 4, 6, 3)),
    "resnet50": (BOTTLENECK, (3, 4, 6, 3)),
    "resnet101": (BOTTLENECK, (3, 4, 23, 3)),
    "resnet152": (BOTTLENECK, (3, 8, 36, 3)),
}


@layouts.register("resnet")
def architectures() -> Iterator[Architecture]:
    for name, (bottleneck, counts) in BLOCKS.items():
        net = Builder()
        x = net.norm(net.conv(net.input(), "conv1", 7, 2, 3, bias=False), "bn1")
        x = net.max_pool(net.relu(x), 3, 2, 1)
        for stage, count in enumerate(counts, 1):
            for block in range(count):
                first = block == 0
                stride = 2 if first and stage > 1 else 1
                # Only there does the number of channels or the size change.
                shortcut = first and (bottleneck or stage > 1)
                x = _block(net, x, f"layer{stage}.{block}", bottleneck, stride, shortcut)
        yield Architecture(name, net.linear(net.mean_pool(x), "fc"))


def _block(
    net: Builder, x: Operation, name: str, bottleneck: bool, stride: int, shortcut: bool
) -> Operation:
    # Kernel and stride of each convolution.
    shapes = ((1, 1), (3, stride), (1, 1)) if bottleneck else ((3, stride), (3, 1))
    y = x
    for index, (kernel, own) in enumerate(shapes, 1):
        y = net.conv(y, f"{name}.conv{index}", kernel, own, kernel // 2, bias=False)
        y = net.norm(y, f"{name}.bn{index}")
        if index < len(shapes):
            y = net.relu(y)
    if shortcut:
        x = net.conv(x, f"{name}.downsample.0", 1, stride, bias=False)
        x = net.norm(x, f"{name}.downsample.1")
    return net.relu(net.add(y, x))
