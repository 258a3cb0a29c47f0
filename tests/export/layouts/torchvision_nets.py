"""Nets of torchvision's structure in two forms: torch modules with its names, and prototxts.

Both are written from what torchvision documents, apart from each other and from the package, with
few channels. ``width`` is the number of channels of the first convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

CLASSES = 5


# torch


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class Vgg(nn.Module):
    def __init__(self, counts: tuple[int, ...], width: int, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, count in enumerate(counts):
            for _ in range(count):
                outputs = width * min(2**stage, 8)
                layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
                if norm:
                    layers.append(nn.BatchNorm2d(outputs))
                layers.append(_relu())
                channels = outputs
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        hidden = width * 2
        self.classifier = nn.Sequential(
            *(nn.Linear(channels * 49, hidden), _relu(), nn.Dropout()),
            *(nn.Linear(hidden, hidden), _relu(), nn.Dropout()),
            nn.Linear(hidden, CLASSES),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class AlexNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, width, 11, 4, 2), _relu(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(width, width, 5, padding=2), _relu(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(width, width, 3, padding=1), _relu()),
            *(nn.Conv2d(width, width, 3, padding=1), _relu()),
            *(nn.Conv2d(width, width, 3, padding=1), _relu(), nn.MaxPool2d(3, 2)),
        )
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(width * 36, width), _relu()),
            *(nn.Dropout(), nn.Linear(width, width), _relu()),
            nn.Linear(width, CLASSES),
        )

    forward = Vgg.forward


class Fire(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, width, 1)
        self.expand1x1 = nn.Conv2d(width, width, 1)
        self.expand3x3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(nn.Module):
    def __init__(self, kernel: int, modules: str, width: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, width, kernel, 2), _relu(), nn.MaxPool2d(3, 2, ceil_mode=True)]
        channels = width
        for module in modules:
            if module == "P":
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                layers.append(Fire(channels, width))
                channels = 2 * width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(channels, CLASSES, 1), _relu(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bottleneck = outputs != width
        if self.bottleneck:
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.bottleneck:
            y = self.bn3(self.conv3(y.relu()))
        shortcut = x if self.downsample is None else self.downsample(x)
        total: torch.Tensor = y + shortcut
        return total.relu()


class ResNet(nn.Module):
    def __init__(self, counts: tuple[int, ...], expansion: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(counts, 1):
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 and stage > 1 else 1
                blocks.append(Block(channels, width, width * expansion, stride))
                channels = width * expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class BasicConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x)).relu()


class Inception(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1 = BasicConv(inputs, width, 1)
        self.branch2 = nn.Sequential(BasicConv(inputs, width, 1), BasicConv(width, width, 3))
        self.branch3 = nn.Sequential(BasicConv(inputs, width, 1), BasicConv(width, width, 3))
        pool = nn.MaxPool2d(3, 1, 1, ceil_mode=True)
        self.branch4 = nn.Sequential(pool, BasicConv(inputs, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    POOLED = {"3a": (3, 2), "4a": (3, 2), "5a": (2, 2)}
    MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = BasicConv(3, width, 7, 2)
        self.conv2, self.conv3 = BasicConv(width, width, 1), BasicConv(width, width, 3)
        channels = width
        for name in self.MODULES:
            setattr(self, f"inception{name}", Inception(channels, width))
            channels = 4 * width
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def pool(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
            return nn.functional.max_pool2d(x, kernel, stride, ceil_mode=True)

        x = self.conv3(self.conv2(pool(self.conv1(x), 3, 2)))
        for name in self.MODULES:
            if name in self.POOLED:
                x = pool(x, *self.POOLED[name])
            x = getattr(self, f"inception{name}")(x)
        return self.fc(x.mean((2, 3)))


# Caffe


class NetText:
    """Writes a prototxt layer by layer; methods take and return names of blobs."""

    def __init__(self, side: int) -> None:
        self.lines = [
            'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 '
            f"dim: {side} dim: {side} }} }} }}"
        ]

    def layer(self, kind: str, settings: str, *bottoms: str, top: str | None = None) -> str:
        name = f"{kind.lower()}{len(self.lines)}"
        top = top or name
        wiring = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.lines.append(
            f'layer {{ name: "{name}" type: "{kind}" {wiring} top: "{top}" {settings} }}'
        )
        return top

    def conv(self, x: str, outputs: int, kernel: int, more: str = "") -> str:
        filler = 'weight_filler { type: "msra" } bias_filler { type: "uniform" min: -1 max: 1 }'
        settings = f"num_output: {outputs} kernel_size: {kernel} {filler} {more}"
        return self.layer("Convolution", f"convolution_param {{ {settings} }}", x)

    def norm(self, x: str, eps: float = 1e-5) -> str:
        x = self.layer("BatchNorm", f"batch_norm_param {{ eps: {eps} }}", x)
        return self.layer("Scale", "scale_param { bias_term: true }", x, top=x)

    def relu(self, x: str) -> str:
        return self.layer("ReLU", "", x, top=x)

    def pool(self, x: str, kernel: int, stride: int, more: str = "") -> str:
        settings = f"pool: MAX kernel_size: {kernel} stride: {stride} {more}"
        return self.layer("Pooling", f"pooling_param {{ {settings} }}", x)

    def mean(self, x: str) -> str:
        return self.layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", x)

    def linear(self, x: str, outputs: int) -> str:
        settings = f'num_output: {outputs} weight_filler {{ type: "msra" }}'
        return self.layer("InnerProduct", f"inner_product_param {{ {settings} }}", x)

    def hidden(self, x: str, outputs: int) -> str:
        x = self.relu(self.linear(x, outputs))
        return self.layer("Dropout", "", x, top=x)

    def text(self) -> str:
        return "\n".join(self.lines)


def vgg_text(counts: tuple[int, ...], width: int, norm: bool) -> str:
    net, x = NetText(224), "data"
    for stage, count in enumerate(counts):
        for _ in range(count):
            x = net.conv(x, width * min(2**stage, 8), 3, "pad: 1")
            x = net.relu(net.norm(x) if norm else x)
        x = net.pool(x, 2, 2)
    net.linear(net.hidden(net.hidden(x, width * 2), width * 2), CLASSES)
    return net.text()


def alexnet_text(width: int) -> str:
    net = NetText(224)
    x = net.pool(net.relu(net.conv("data", width, 11, "stride: 4 pad: 2")), 3, 2)
    x = net.pool(net.relu(net.conv(x, width, 5, "pad: 2")), 3, 2)
    for _ in range(3):
        x = net.relu(net.conv(x, width, 3, "pad: 1"))
    x = net.pool(x, 3, 2)
    net.linear(net.hidden(net.hidden(x, width), width), CLASSES)
    return net.text()


def squeezenet_text(kernel: int, modules: str, width: int) -> str:
    net = NetText(64)
    x = net.pool(net.relu(net.conv("data", width, kernel, "stride: 2")), 3, 2)
    for module in modules:
        if module == "P":
            x = net.pool(x, 3, 2)
            continue
        x = net.relu(net.conv(x, width, 1))
        one, three = net.relu(net.conv(x, width, 1)), net.relu(net.conv(x, width, 3, "pad: 1"))
        x = net.layer("Concat", "", one, three)
    net.mean(net.relu(net.conv(x, CLASSES, 1)))
    return net.text()


def resnet_text(
    counts: tuple[int, ...], expansion: int, width: int, stride_in_first: bool = False
) -> str:
    net = NetText(64)
    x = net.relu(net.norm(net.conv("data", width, 7, "stride: 2 pad: 3 bias_term: false")))
    x, channels = net.pool(x, 3, 2, "pad: 1 ceil_mode: false"), width

    def conv(x: str, outputs: int, kernel: int, stride: int = 1) -> str:
        more = f"stride: {stride} pad: {kernel // 2} bias_term: false"
        return net.norm(net.conv(x, outputs, kernel, more))

    for stage, count in enumerate(counts):
        for index in range(count):
            stride = 2 if index == 0 and stage else 1
            outputs = width * expansion
            shortcut = x
            if stride != 1 or channels != outputs:
                shortcut = conv(x, outputs, 1, stride)
            if expansion == 1:
                y = conv(net.relu(conv(x, width, 3, stride)), width, 3)
            else:
                first, second = (stride, 1) if stride_in_first else (1, stride)
                y = net.relu(conv(net.relu(conv(x, width, 1, first)), width, 3, second))
                y = conv(y, outputs, 1)
            # Caffe's own nets name the shortcut first.
            x, channels = net.relu(net.layer("Eltwise", "", shortcut, y)), outputs
    net.linear(net.mean(x), CLASSES)
    return net.text()


def googlenet_text(width: int, norm: bool = True) -> str:
    net = NetText(64)

    def conv(x: str, kernel: int, stride: int = 1) -> str:
        more = f"stride: {stride} pad: {kernel // 2} bias_term: false"
        x = net.conv(x, width, kernel, more)
        return net.relu(net.norm(x, 0.001) if norm else x)

    x = conv(conv(net.pool(conv("data", 7, 2), 3, 2), 1), 3)
    for name in GoogLeNet.MODULES:
        if name in GoogLeNet.POOLED:
            x = net.pool(x, *GoogLeNet.POOLED[name])
        branches = [conv(x, 1), conv(conv(x, 1), 3), conv(conv(x, 1), 3)]
        x = net.layer("Concat", "", *branches, conv(net.pool(x, 3, 1, "pad: 1"), 1))
    net.linear(net.mean(x), CLASSES)
    return net.text()


@dataclass(frozen=True)
class Pair:
    """One architecture in both forms."""

    module: Callable[[], nn.Module]
    text: str


VGG: dict[str, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
FIRES = {"squeezenet1_0": (7, "FFFPFFFFPF"), "squeezenet1_1": (3, "FFPFFPFFFF")}
RESNETS: dict[str, tuple[tuple[int, ...], int]] = {
    "resnet18": ((2, 2, 2, 2), 1),
    "resnet34": ((3, 4, 6, 3), 1),
    "resnet50": ((3, 4, 6, 3), 4),
    "resnet101": ((3, 4, 23, 3), 4),
    "resnet152": ((3, 8, 36, 3), 4),
}


def _pairs(width: int = 2) -> dict[str, Pair]:
    """All architectures, with few channels."""
    found = {}
    for name, counts in VGG.items():
        for norm, ending in ((False, ""), (True, "_bn")):
            found[name + ending] = Pair(
                lambda counts=counts, norm=norm: Vgg(counts, width, norm),  # type: ignore[misc]
                vgg_text(counts, width, norm),
            )
    found["alexnet"] = Pair(lambda: AlexNet(3 * width), alexnet_text(3 * width))
    for name, (kernel, modules) in FIRES.items():
        found[name] = Pair(
            lambda kernel=kernel, modules=modules: SqueezeNet(kernel, modules, width),  # type: ignore[misc]
            squeezenet_text(kernel, modules, width),
        )
    for name, (blocks, expansion) in RESNETS.items():
        found[name] = Pair(
            lambda blocks=blocks, expansion=expansion: ResNet(blocks, expansion, width),  # type: ignore[misc]
            resnet_text(blocks, expansion, width),
        )
    found["googlenet"] = Pair(lambda: GoogLeNet(width), googlenet_text(width))
    return found


PAIRS_BY_NAME = _pairs()
