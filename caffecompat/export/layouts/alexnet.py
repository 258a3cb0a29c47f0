"""torchvision's AlexNet: that of one GPU, without groups and without LRN."""

from __future__ import annotations

from collections.abc import Iterator

from caffecompat.export.layouts.base import Architecture, Builder, layouts

# Module, kernel, stride, pad, and whether a pooling follows.
CONVOLUTIONS = (
    (0, 11, 4, 2, True),
    (3, 5, 1, 2, True),
    (6, 3, 1, 1, False),
    (8, 3, 1, 1, False),
    (10, 3, 1, 1, True),
)
LINEARS = (1, 4, 6)
MAP_SIDE = 6


@layouts.register("alexnet")
def architectures() -> Iterator[Architecture]:
    net = Builder()
    x = net.input()
    for index, kernel, stride, pad, pooled in CONVOLUTIONS:
        x = net.relu(net.conv(x, f"features.{index}", kernel, stride, pad))
        if pooled:
            x = net.max_pool(x, 3, 2)
    for linear in LINEARS:
        x = net.linear(x, f"classifier.{linear}", MAP_SIDE if linear == LINEARS[0] else None)
        if linear != LINEARS[-1]:
            x = net.relu(x)
    yield Architecture("alexnet", x)
