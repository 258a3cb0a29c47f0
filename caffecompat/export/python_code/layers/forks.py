"""Layers of forks."""

from __future__ import annotations

from functools import partial

from caffecompat.export.python_code.layer import CodeLayer, number, options, writers
from caffecompat.export.python_code.layers.plain import write_pooling
from caffecompat.export.python_code.layers.weighted import convolution
from caffecompat.layers._pooling_windows import Windows
from caffecompat.layers.forks.segmentation.bn_segnet import EPS

for _type in ("CCCP", "DepthwiseConvolution", "ConvolutionDepthwise"):
    writers.register(_type)(convolution)


def _function(name: str, at: CodeLayer) -> None:
    at.write(name, at.x)


for _type, _name in (("HardSwish", "F.hardswish"), ("Mish", "F.mish")):
    writers.register(_type)(partial(_function, _name))


@writers.register("ReLU6")
def relu6(at: CodeLayer) -> None:
    slope = at.layer.negative_slope
    if slope == 0:
        at.write("F.relu6", at.x)
    else:
        at.assign(f"F.leaky_relu({at.x}, {number(slope)}).clamp(max=6)")


@writers.register("Dropout")
def dropout(at: CodeLayer) -> None:
    """One that does not pass its bottom on: with ``scale_train: false`` it is scaled in TEST."""
    if at.layer.drops:
        at.refuse("it drops values in phase TEST too (sample_weights_test)")
    at.assign(f"{at.x} * {number(1 - at.layer.ratio)}")


@writers.register("SpatialDropoutLayer")
def spatial_dropout(at: CodeLayer) -> None:
    """ENet's, which is scaled in TEST."""
    if at.layer.drops:
        at.refuse("its param_str has the phase TRAIN, in which it drops channels; write TEST there")
    at.assign(f"{at.x} / {number(1 - at.layer.ratio)}")


@writers.register("ShuffleChannel")
def shuffle_channel(at: CodeLayer) -> None:
    groups = (at.layer.group, at.shapes[0][1] // at.layer.group)
    at.assign(f"{at.x}.unflatten(1, {groups}).transpose(1, 2).flatten(1, 2)")


@writers.register("Axpy")
def axpy(at: CodeLayer) -> None:
    a, x, y = at.bottoms
    ones = ", 1" * (len(at.shapes[1]) - 2)
    at.assign(f"{a}.reshape({a}.shape[0], -1{ones}) * {x} + {y}")


@writers.register("Sum")
def sum_(at: CodeLayer) -> None:
    at.assign(" + ".join(at.bottoms))


@writers.register("Reorg")
def reorg(at: CodeLayer) -> None:
    at.need_size()
    s, (channels, height, width) = at.layer.stride, at.shapes[0][1:]
    planes = channels // (s * s)
    if at.layer.reverse:
        inner, order = (s, s, planes, height, width), (0, 3, 4, 1, 5, 2)
        shape = (planes, height * s, width * s)
    else:
        inner, order = (planes, height, s, width, s), (0, 3, 5, 1, 2, 4)
        shape = (channels * s * s, height // s, width // s)
    at.assign(f"{at.x}.reshape{(-1, *inner)}.permute{order}.reshape{(-1, *shape)}")


@writers.register("Flip")
@writers.register("Reverse")
def flip(at: CodeLayer) -> None:
    at.assign(f"{at.x}.flip({at.layer.along})")


@writers.register("Permute")
@writers.register("Transpose")
def permute(at: CodeLayer) -> None:
    at.assign(f"{at.x}.permute({', '.join(map(str, at.layer.order))})")


@writers.register("Squeeze")
def squeeze(at: CodeLayer) -> None:
    at.assign(f"{at.x}.squeeze({tuple(at.layer.removed)})")


@writers.register("Upsample")
@writers.register("UpsampleDarknet")
def upsample(at: CodeLayer) -> None:
    """YOLOv3's; others take a mask."""
    if len(at.bottoms) > 1:
        at.refuse("an Upsample with a pooling mask is not written")
    scale = at.layer.scale
    at.assign(f"{at.x}.repeat_interleave({scale}, -2).repeat_interleave({scale}, -1)")


@writers.register("Interp")
def interp(at: CodeLayer) -> None:
    layer, x = at.layer, at.x
    height, width = (extent - layer.begin - layer.end for extent in at.shapes[0][2:])
    own, larger = layer.target_size(height, width), layer.target_size(height + 8, width + 8)
    if layer.begin or layer.end or (len(at.bottoms) == 1 and own != larger):
        at.need_size()
    if layer.begin or layer.end:
        x = f"{x}.narrow(2, {layer.begin}, {height}).narrow(3, {layer.begin}, {width})"
    if len(at.bottoms) > 1:
        _resize(at, x, f"{at.bottoms[1]}.shape[2:]")
    else:
        _resize(at, x, str(tuple(own)))


@writers.register("BilinearInterpolation")
def bilinear_interpolation(at: CodeLayer) -> None:
    _resize(at, at.x, f"{at.bottoms[1]}.shape[2:]")


def _resize(at: CodeLayer, x: str, size: str) -> None:
    at.write("F.interpolate", x, size, 'mode="bilinear"', "align_corners=True")


@writers.register("BN")
def bn(at: CodeLayer) -> None:
    """PSPNet's with running statistics, or SegNet's, whose statistics are those of the batch."""
    channels = str(at.shapes[0][1])
    if "slope" in {spec.name for spec in at.layer.specs}:
        at.write(at.module(at.need("BN"), channels, f"eps={number(at.layer.eps)}"), at.x)
        return
    if len(at.tops) > 1:
        at.refuse("its tops with mean and variance are not written")
    of_batch = [f"eps={number(EPS)}"] if at.layer.learn else []
    at.write(at.module(at.need("ScaleShift"), channels, *of_batch), at.x)


@writers.register("NVCaffe BatchNorm")
def batch_norm_of_nvcaffe(at: CodeLayer) -> None:
    channels, eps = str(at.shapes[0][1]), f"eps={number(at.layer.eps)}"
    at.write(at.module(at.need("BatchNormScaleBias"), channels, eps), at.x)


@writers.register("InnerDistance")
def inner_distance(at: CodeLayer) -> None:
    layer = at.layer
    rows = f"{at.x}.flatten({layer.first})"
    absolute = options(absolute=(layer.absolute, False))
    if layer.given:
        at.write(at.need("distances"), rows, f"{at.bottoms[1]}.flatten(1)", *absolute)
        return
    count = str(layer.specs[0].shape[0])
    more = [*absolute, *options(normalize=(bool(layer.normalize), False))]
    at.write(at.module(at.need("Distances"), str(layer.inputs), count, *more), rows)


@writers.register("Extend")
def extend(at: CodeLayer) -> None:
    at.assign(f"{at.x}.repeat_interleave({at.layer.count}, 1)")


@writers.register("ORPooling")
def orientation_pooling(at: CodeLayer) -> None:
    at.assign(f"{at.x}.unflatten(1, (-1, {at.layer.count})).amax(2)")


@writers.register("MergeCrop")
def merge_crop(at: CodeLayer) -> None:
    a, b = at.bottoms
    parts = [a, f"{at.need('middle')}({b}, {a})"]
    passed = [f"{x} * 0" if not goes else x for x, goes in zip(parts, at.layer.passes, strict=True)]
    if at.layer.add:
        at.assign(" + ".join(passed))
    else:
        at.write("torch.cat", f"[{', '.join(passed)}]", "1")


@writers.register("Pooling3D")
def pooling_3d(at: CodeLayer) -> None:
    layer = at.layer
    windows = Windows(tuple(at.shapes[0][2:]), layer.kernel, layer.stride, layer.pad)
    write_pooling(at, windows, layer.method == "MAX")


@writers.register("FeatureExtrapolating")
def feature_extrapolating(at: CodeLayer) -> None:
    sources = [(source, float(ratio)) for source, ratio in at.layer.sources]
    at.write(at.need("features_of_scales"), at.x, str(at.layer.given), str(sources))


@writers.register("Normalize")
def normalize(at: CodeLayer) -> None:
    """Both definitions: SSD's, and NormFace's without parameters."""
    layer = at.layer
    if layer.specs:
        module = at.module(
            at.need("Normalize"),
            str(tuple(layer.specs[0].shape)),
            str(layer.across_spatial),
            f"eps={number(layer.eps)}",
        )
        at.write(module, at.x)
        return
    x = at.x + "[..., None]" * (4 - len(at.shapes[0]))
    if layer.squares:
        norm = f"({x}.square().sum(1, keepdim=True) + 1e-6).sqrt()"
    else:
        norm = f"({x}.abs().sum(1, keepdim=True) + 1e-6)"
    at.assign(f"{x} / {norm}, {norm}" if layer.two_tops else f"{x} / {norm}")


@writers.register("PriorBox")
@writers.register("PriorBoxClustered")
def prior_box(at: CodeLayer) -> None:
    layer = at.layer
    image = str(layer.image) if layer.image[0] else f"{at.bottoms[1]}.shape[2:]"
    size, pixels = at.shapes[0][2:], layer.image_size(at.shapes[1])
    boxes = [(b.width, b.height, b.x, b.y, b.at_lower_edge) for b in layer.boxes]
    if layer.steps(size, pixels) != layer.steps([2 * extent for extent in size], pixels):
        at.need_size(0)
        at.need_size(1)
    at.write(
        at.need("prior_boxes"),
        f"{at.x}.shape[2:]",
        image,
        str(layer.steps(size, pixels)),
        str(layer.offset),
        str(boxes),
        str(layer.variances),
        str(layer.clip),
    )


@writers.register("CROP")
def crop_of_fully_convolutional_nets(at: CodeLayer) -> None:
    at.write(at.need("crop"), at.x, at.bottoms[1], "2", str(tuple(at.layer.offsets)))


@writers.register("LabelSpecificAdd")
def label_specific_add(at: CodeLayer) -> None:
    """The scores as they are, since the margin is for training."""
    if len(at.tops) > 1:
        at.refuse("its second top, the margin, changes from one pass to the next")
    at.assign(at.x)
