"""Deploy nets of well-known architectures, written out, for measurements without any file.

The numbers are those of the papers and of the published Caffe definitions: VGG-16 (net D), CaffeNet
(AlexNet with pooling before LRN), GoogLeNet, ResNet-50, SqueezeNet v1.1 and MobileNet v1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from caffecompat import Net
from caffecompat.proto.text.parser import parse_text

CLASSES = 1000
# Layers and channels of VGG-16's stages.
VGG = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# Output channels of GoogLeNet's modules: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; behind the pooling.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
# Squeeze and expand channels of SqueezeNet v1.1; a pooling stands before fire4 and fire6... below.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
POOLED_FIRES = (0, 2, 4)
# Blocks and inner channels of ResNet-50's stages.
STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
# Output channels and stride of MobileNet's separable convolutions.
SEPARABLE = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)


class NetText:
    """Writes a deploy net, layer by layer; each method returns the name of the blob that it makes.

    Args:
        name: the net's name.
        size: height and width of the input, in pixels.
    """

    def __init__(self, name: str, size: int) -> None:
        self._lines = [
            f'name: "{name}"',
            'layer { name: "data" type: "Input" top: "data"',
            f"  input_param {{ shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }} }} }}",
        ]

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def layer(self, kind: str, name: str, bottoms: str | list[str], settings: str = "") -> str:
        return self._add(kind, name, bottoms, name, settings)

    def in_place(self, kind: str, name: str, blob: str, settings: str = "") -> str:
        return self._add(kind, name, blob, blob, settings)

    def _add(self, kind: str, name: str, bottoms: str | list[str], top: str, settings: str) -> str:
        names = [bottoms] if isinstance(bottoms, str) else bottoms
        read = " ".join(f'bottom: "{bottom}"' for bottom in names)
        self._lines.append(
            f'layer {{ name: "{name}" type: "{kind}" {read} top: "{top}" {settings} }}'
        )
        return top

    def conv(self, x: str, name: str, outputs: int, kernel: int = 1, more: str = "") -> str:
        """A convolution and its ReLU; ``more`` are further settings."""
        return self.relu(self.bare_conv(x, name, outputs, kernel, more), name)

    def bare_conv(self, x: str, name: str, outputs: int, kernel: int = 1, more: str = "") -> str:
        settings = (
            f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} {more} "
            'weight_filler { type: "msra" } }'
        )
        return self.layer("Convolution", name, x, settings)

    def normal_conv(self, x: str, name: str, outputs: int, kernel: int, more: str = "") -> str:
        """A convolution without bias, with BatchNorm and Scale in place."""
        x = self.bare_conv(x, name, outputs, kernel, f"{more} bias_term: false")
        self.in_place("BatchNorm", f"{name}/bn", x)
        return self.in_place("Scale", f"{name}/scale", x, "scale_param { bias_term: true }")

    def relu(self, x: str, name: str) -> str:
        return self.in_place("ReLU", f"relu_{name}", x)

    def pool(self, x: str, name: str, kernel: int, stride: int, pad: int = 0) -> str:
        settings = f"pool: MAX kernel_size: {kernel} stride: {stride} pad: {pad}"
        return self.layer("Pooling", name, x, f"pooling_param {{ {settings} }}")

    def mean_pool(self, x: str, name: str) -> str:
        return self.layer("Pooling", name, x, "pooling_param { pool: AVE global_pooling: true }")

    def lrn(self, x: str, name: str) -> str:
        return self.layer("LRN", name, x, "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def inner(self, x: str, name: str, outputs: int) -> str:
        settings = (
            f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "msra" }} }}'
        )
        return self.layer("InnerProduct", name, x, settings)

    def dropout(self, x: str, name: str) -> str:
        return self.in_place("Dropout", name, x)

    def softmax(self, x: str) -> str:
        return self.layer("Softmax", "prob", x)


def vgg16() -> str:
    net = NetText("VGG-16", 224)
    x = "data"
    for stage, (count, outputs) in enumerate(VGG, 1):
        for index in range(1, count + 1):
            x = net.conv(x, f"conv{stage}_{index}", outputs, 3, "pad: 1")
        x = net.pool(x, f"pool{stage}", 2, 2)
    return _classified(net, x)


def caffenet() -> str:
    net = NetText("CaffeNet", 227)
    x = net.conv("data", "conv1", 96, 11, "stride: 4")
    x = net.lrn(net.pool(x, "pool1", 3, 2), "norm1")
    x = net.conv(x, "conv2", 256, 5, "pad: 2 group: 2")
    x = net.lrn(net.pool(x, "pool2", 3, 2), "norm2")
    x = net.conv(x, "conv3", 384, 3, "pad: 1")
    x = net.conv(x, "conv4", 384, 3, "pad: 1 group: 2")
    x = net.conv(x, "conv5", 256, 3, "pad: 1 group: 2")
    return _classified(net, net.pool(x, "pool5", 3, 2))


def _classified(net: NetText, x: str) -> str:
    """The three inner products of AlexNet and VGG, and the finished text."""
    for name in ("6", "7"):
        x = net.dropout(net.relu(net.inner(x, f"fc{name}", 4096), name), f"drop{name}")
    net.softmax(net.inner(x, "fc8", CLASSES))
    return str(net)


def googlenet() -> str:
    net = NetText("GoogLeNet", 224)
    x = net.conv("data", "conv1/7x7_s2", 64, 7, "pad: 3 stride: 2")
    x = net.lrn(net.pool(x, "pool1/3x3_s2", 3, 2), "pool1/norm1")
    x = net.conv(x, "conv2/3x3_reduce", 64)
    x = net.lrn(net.conv(x, "conv2/3x3", 192, 3, "pad: 1"), "conv2/norm2")
    x = net.pool(x, "pool2/3x3_s2", 3, 2)
    for name, sizes in INCEPTION.items():
        x = _inception(net, x, f"inception_{name}", sizes)
        if name in ("3b", "4e"):
            x = net.pool(x, f"pool{int(name[0])}/3x3_s2", 3, 2)
    x = net.dropout(net.mean_pool(x, "pool5/7x7_s1"), "pool5/drop")
    net.softmax(net.inner(x, "loss3/classifier", CLASSES))
    return str(net)


def _inception(net: NetText, x: str, name: str, sizes: tuple[int, ...]) -> str:
    one, reduce3, three, reduce5, five, pooled = sizes
    parts = [
        net.conv(x, f"{name}/1x1", one),
        net.conv(net.conv(x, f"{name}/3x3_reduce", reduce3), f"{name}/3x3", three, 3, "pad: 1"),
        net.conv(net.conv(x, f"{name}/5x5_reduce", reduce5), f"{name}/5x5", five, 5, "pad: 2"),
        net.conv(net.pool(x, f"{name}/pool", 3, 1, 1), f"{name}/pool_proj", pooled),
    ]
    return net.layer("Concat", f"{name}/output", parts)


def resnet50() -> str:
    net = NetText("ResNet-50", 224)
    x = net.relu(net.normal_conv("data", "conv1", 64, 7, "pad: 3 stride: 2"), "conv1")
    x = net.pool(x, "pool1", 3, 2)
    for stage, (blocks, inner) in enumerate(STAGES, 2):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 2 else 1
            x = _bottleneck(net, x, f"res{stage}{'abcdef'[block]}", inner, stride, block == 0)
    x = net.mean_pool(x, "pool5")
    net.softmax(net.inner(x, "fc1000", CLASSES))
    return str(net)


def _bottleneck(net: NetText, x: str, name: str, inner: int, stride: int, first: bool) -> str:
    strided = f"stride: {stride}"
    shortcut = net.normal_conv(x, f"{name}_branch1", 4 * inner, 1, strided) if first else x
    a, b, c = (f"{name}_branch2{part}" for part in "abc")
    y = net.relu(net.normal_conv(x, a, inner, 1, strided), a)
    y = net.relu(net.normal_conv(y, b, inner, 3, "pad: 1"), b)
    y = net.normal_conv(y, c, 4 * inner, 1)
    return net.relu(net.layer("Eltwise", name, [shortcut, y]), name)


def squeezenet() -> str:
    net = NetText("SqueezeNet v1.1", 227)
    x = net.conv("data", "conv1", 64, 3, "stride: 2")
    for index, (squeeze, expand) in enumerate(FIRES):
        if index in POOLED_FIRES:
            x = net.pool(x, f"pool{index + 1}", 3, 2)
        name = f"fire{index + 2}"
        x = net.conv(x, f"{name}/squeeze1x1", squeeze)
        parts = [
            net.conv(x, f"{name}/expand1x1", expand),
            net.conv(x, f"{name}/expand3x3", expand, 3, "pad: 1"),
        ]
        x = net.layer("Concat", f"{name}/concat", parts)
    x = net.conv(net.dropout(x, "drop9"), "conv10", CLASSES)
    net.softmax(net.mean_pool(x, "pool10"))
    return str(net)


def mobilenet() -> str:
    net = NetText("MobileNet", 224)
    x = net.relu(net.normal_conv("data", "conv1", 32, 3, "pad: 1 stride: 2"), "conv1")
    channels = 32
    for index, (outputs, stride) in enumerate(SEPARABLE, 1):
        depthwise = f"pad: 1 stride: {stride} group: {channels}"
        name = f"conv{index}"
        x = net.relu(net.normal_conv(x, f"{name}/dw", channels, 3, depthwise), f"{name}/dw")
        x = net.relu(net.normal_conv(x, f"{name}/sep", outputs, 1), f"{name}/sep")
        channels = outputs
    net.softmax(net.bare_conv(net.mean_pool(x, "pool6"), "fc7", CLASSES))
    return str(net)


NETS: dict[str, Callable[[], str]] = {
    "vgg16": vgg16,
    "caffenet": caffenet,
    "googlenet": googlenet,
    "resnet50": resnet50,
    "squeezenet": squeezenet,
    "mobilenet": mobilenet,
}


def known_net(name: str) -> Net:
    """The net in phase TEST; weights from its fillers, statistics of normalisations random."""
    message, _ = parse_text(NETS[name](), "NetParameter", f"{name}.prototxt")
    net = Net(message)
    generator = np.random.default_rng(1)
    for layer, blobs in net.params.items():
        if layer.endswith("/bn"):
            mean, variance, factor = blobs
            mean.copy_(_normal(generator, mean.shape) * 0.1)
            variance.copy_(abs(_normal(generator, variance.shape)) * 0.2 + 0.9)
            factor.fill_(1)
    return net


def _normal(generator: np.random.Generator, shape: tuple[int, ...]):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(generator.normal(size=shape).astype(np.float32))
