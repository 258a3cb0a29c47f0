"""Fork layers for dense prediction and for small nets."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields, plane


@example_of("BN (DeepLab, PSPNet, TSN)")
def bn_pspnet(draw: Draw) -> Example:
    shape = extents(draw, 2, 4)
    text = fields(
        "bn_param", frozen=draw(st.booleans()), momentum=0.8, eps=draw(st.sampled_from([1e-5, 0.1]))
    )
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(text, (Bottom((shape[0] + 1, *shape[1:])),), phase=phase)


@example_of("BN (SegNet, ENet)")
def bn_segnet(draw: Draw) -> Example:
    learn = draw(st.booleans())
    n, c, h, w = plane(draw)
    tops = draw(st.integers(1, 3)) if learn else 1
    text = fields("bn_param", bn_mode="LEARN" if learn else "INFERENCE")
    return Example(text, (Bottom((n, c, h, w)),), tops=tops)


@example_of("Interp")
def interp(draw: Draw) -> Example:
    shape = plane(draw)
    pads = {
        "pad_beg": draw(st.sampled_from([None, 0, -1])),
        "pad_end": draw(st.sampled_from([0, -1])),
    }
    sizes = draw(
        st.sampled_from(
            [
                {"height": 3, "width": 9},
                {"zoom_factor": 2},
                {"shrink_factor": 2},
                {"shrink_factor": 2, "zoom_factor": 3},
                {"height": 1, "width": 1},
            ]
        )
    )
    text = fields("interp_param", **pads, **sizes)
    if draw(st.booleans()):
        return Example(text, (Bottom(shape), Bottom((1, 1, 5, 8))))
    return Example(text, (Bottom(shape),))


@example_of("BilinearInterpolation")
def bilinear_interpolation(draw: Draw) -> Example:
    return Example("", (Bottom(plane(draw)), Bottom((2, 3, 6, 9))))


@example_of("Upsample (SegNet)")
def upsample_segnet(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = draw(
        st.sampled_from(
            [
                "",
                "upsample_param { scale: 2 pad_out_h: true }",
                "upsample_param { scale_h: 2 scale_w: 3 }",
            ]
        )
    )
    bottoms = (Bottom((n, c, h, w)), Bottom((n, c, h, w), "labels", h * w))
    return Example(f'bottom: "a" bottom: "b" {text}', bottoms)


@example_of("Upsample (YOLOv3)")
def upsample_nearest(draw: Draw) -> Example:
    text = fields("upsample_param", scale=draw(st.integers(1, 3)))
    return Example(f'bottom: "a" {text}', (Bottom(plane(draw)),))


@example_of("UpsampleDarknet")
def upsample_darknet(draw: Draw) -> Example:
    text = fields("upsample_darknet_param", stride=draw(st.integers(1, 3)))
    return Example(f'bottom: "a" {text}', (Bottom(plane(draw)),))


@example_of("MergeCrop")
def merge_crop(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    add = draw(st.booleans())
    text = fields("mergecrop_param", operation="ADD" if add else "STACK", backward=[True, True])
    return Example(text, (Bottom((n, c, h, w)), Bottom((n, c if add else 4, h + 1, w + 2))))


@example_of("DiceCoefLoss")
def dice(draw: Draw) -> Example:
    shape = plane(draw)
    return Example("", (Bottom(shape), Bottom(shape, "shares")))


@example_of("WeightedFmeasureLoss")
def weighted_fmeasure(draw: Draw) -> Example:
    n, _, h, w = plane(draw)
    shape = (n, 1, h, w)
    text = fields("weighted_fmeasure_loss_param", margin=draw(st.sampled_from([0, 0.2])))
    bottoms = (Bottom(shape, "positive"), Bottom(shape, "flags"))
    return Example(text, (*bottoms, Bottom(shape, "shares"), Bottom(shape, "shares")))


@example_of("SegAccuracy")
def seg_accuracy(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = fields("seg_accuracy_param", ignore_label=draw(st.sampled_from([None, 0, 255])))
    return Example(text, (Bottom((n, c, h, w)), Bottom((n, 1, h, w), "labels", c)))


@example_of("ConvolutionDepthwise", "DepthwiseConvolution")
def depthwise(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = fields(
        "convolution_param",
        num_output=c,
        kernel_size=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 2)),
        pad=draw(st.integers(0, 1)),
        group=draw(st.sampled_from([None, c])),
        bias_term=draw(st.booleans()),
    )
    return Example(text, (Bottom((n, c, h, w)),))


@example_of("CCCP")
def cccp(draw: Draw) -> Example:
    text = fields("cccp_param", num_output=draw(st.integers(1, 4)), bias_term=draw(st.booleans()))
    return Example(text, (Bottom(plane(draw)),))


@example_of("ShuffleChannel")
def shuffle_channel(draw: Draw) -> Example:
    group = draw(st.integers(1, 3))
    shape = extents(draw, 2, 4)
    text = fields("shuffle_channel_param", group=group)
    return Example(text, (Bottom((shape[0], group * shape[1], *shape[2:])),))


@example_of("ReLU6")
def relu6(draw: Draw) -> Example:
    slope = draw(st.sampled_from([0, 0.1]))
    return Example(fields("relu6_param", negative_slope=slope), (Bottom(extents(draw, 1, 4)),))


@example_of("HardSwish", "Mish")
def activation(draw: Draw) -> Example:
    return Example("", (Bottom(extents(draw, 1, 4)),))


@example_of("Axpy")
def axpy(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    weights = draw(st.sampled_from([(n, c), (n, c, 1, 1)]))
    return Example("", (Bottom(weights), Bottom((n, c, h, w)), Bottom((n, c, h, w))))


@example_of("Squeeze")
def squeeze(draw: Draw) -> Example:
    shape, axes = draw(
        st.sampled_from(
            [((2, 3, 1, 1), [2]), ((1, 3, 1, 2), []), ((2, 1, 3, 1), [-1, 1]), ((1, 2), [0])]
        )
    )
    return Example(fields("squeeze_param", axis=axes), (Bottom(shape),))


@example_of("SigmoidCrossEntropyLoss (HED, RCF)")
def balanced_cross_entropy(draw: Draw) -> Example:
    shape = plane(draw)
    return Example("", (Bottom(shape), Bottom(shape, "flags")))


@example_of("PR")
def precision_recall(draw: Draw) -> Example:
    shape = plane(draw)
    text = fields(
        "precision_recall_param", thresh=0.4, ignore_label=draw(st.sampled_from([None, 1, 255]))
    )
    return Example(text, (Bottom(shape, "shares"), Bottom(shape, "flags")), 5)


@example_of("Python (SpatialDropoutLayer of ENet)")
def spatial_dropout(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    settings = f"{{'phase': '{draw(st.sampled_from(['TRAIN', 'TEST']))}', 'p': '0.4'}}"
    text = "module: 'spatial_dropout' layer: 'SpatialDropoutLayer'"
    return Example(f'python_param {{ {text} param_str: "{settings}" }}', (Bottom((n, c, h, w)),))
