"""torchvision's VGG nets: configurations A, B, D and E, plain and with batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator

from caffecompat.export.layouts.base import Architecture, Builder, layouts

CONVOLUTIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
LINEARS = (0, 3, 6)
MAP_SIDE = 7


@layouts.register("vgg")
def architectures() -> Iterator[Architecture]:
    for name, counts in CONVOLUTIONS.items():
        yield _vgg(name, counts, norm=False)
        yield _vgg(f"{name}_bn", counts, norm=True)


def _vgg(name: str, counts: tuple[int, ...], norm: bool) -> Architecture:
    net, index = Builder(), 0
    x = net.input()
    for count in counts:
        for _ in range(count):
            x = net.conv(x, f"features.{index}", 3, pad=1)
            if norm:
                x = net.norm(x, f"features.{index + 1}")
            x = net.relu(x)
            index += 3 if norm else 2
        x = net.max_pool(x, 2, 2)
        index += 1
    for linear in LINEARS:
        x = net.linear(x, f"classifier.{linear}", MAP_SIDE if linear == LINEARS[0] else None)
        if linear != LINEARS[-1]:
            x = net.relu(x)
    return Architecture(name, x)
