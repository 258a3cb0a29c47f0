"""Layers that work element by element."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import (
    Bottom,
    Draw,
    Example,
    axis_of,
    example_of,
    extents,
    fields,
    plane,
)


@example_of("ReLU")
def relu(draw: Draw) -> Example:
    slope = draw(st.sampled_from([0, 0.1, -0.3]))
    return Example(fields("relu_param", negative_slope=slope), (Bottom(extents(draw, 1, 4)),))


@example_of("TanH", "Sigmoid", "AbsVal", "BNLL")
def elementwise(draw: Draw) -> Example:
    return Example("", (Bottom(extents(draw, 1, 5)),))


@example_of("Clip")
def clip(draw: Draw) -> Example:
    least, most = draw(st.sampled_from([(-0.3, 0.4), (0.033, 0.5), (0.2, -0.3)]))
    return Example(fields("clip_param", min=least, max=most), (Bottom(extents(draw, 1, 4)),))


@example_of("ELU", "Swish", "Threshold")
def one_number(draw: Draw) -> Example:
    number = draw(st.sampled_from([1, 0.3, -0.6]))
    text = fields("elu_param", alpha=number) + fields("swish_param", beta=number)
    text += fields("threshold_param", threshold=number)
    return Example(text, (Bottom(extents(draw, 1, 4)),))


@example_of("Exp", "Log", "Power")
def affine_inside(draw: Draw) -> Example:
    values = {
        "scale": draw(st.sampled_from([1, 0.6])),
        "shift": draw(st.sampled_from([0, 0.4])),
    }
    base = draw(st.sampled_from([-1, 2, 10]))
    power = draw(st.sampled_from([0, 1, 2, 3, -0.5]))
    text = fields("exp_param", base=base, **values) + fields("log_param", base=base, **values)
    text += fields("power_param", power=power, **values)
    return Example(text, (Bottom(extents(draw, 1, 4), "positive"),))


@example_of("PReLU")
def prelu(draw: Draw) -> Example:
    text = fields("prelu_param", channel_shared=draw(st.booleans()))
    return Example(text, (Bottom(extents(draw, 2, 5)),))


@example_of("Dropout")
def dropout(draw: Draw) -> Example:
    ratio = draw(st.sampled_from([0, 0.3, 0.75]))
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    text = fields("dropout_param", dropout_ratio=ratio)
    return Example(text, (Bottom(extents(draw, 1, 4)),), phase=phase)


@example_of("Scale", "Bias")
def broadcasting(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    axis = draw(st.integers(0, len(shape) - 1))
    count = draw(st.integers(0, len(shape) - axis))
    bias_term = draw(st.booleans())
    text = fields("scale_param", axis=axis, num_axes=count, bias_term=bias_term)
    text += fields("bias_param", axis=axis, num_axes=count)
    operands = (Bottom(shape[axis : axis + count]),) if draw(st.booleans()) else ()
    return Example(text, (Bottom(shape), *operands))


@example_of("Eltwise")
def eltwise(draw: Draw) -> Example:
    count = draw(st.integers(2, 3))
    operation = draw(st.sampled_from(["SUM", "PROD", "MAX"]))
    coeff = [0.5, 1, -2][:count] if operation == "SUM" and draw(st.booleans()) else None
    text = fields("eltwise_param", operation=operation, coeff=coeff)
    return Example(text, (Bottom(extents(draw, 1, 4)),) * count)


@example_of("Softmax")
def softmax(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    return Example(fields("softmax_param", axis=axis_of(draw, shape)), (Bottom(shape),))


@example_of("LRN")
def lrn(draw: Draw) -> Example:
    text = fields(
        "lrn_param",
        local_size=draw(st.sampled_from([1, 3, 5])),
        alpha=draw(st.sampled_from([0.5, 2])),
        beta=draw(st.sampled_from([0.75, 1.2])),
        k=draw(st.sampled_from([1, 2])),
        norm_region=draw(st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"])),
    )
    return Example(text, (Bottom(plane(draw)),))


@example_of("BatchNorm")
def batch_norm(draw: Draw) -> Example:
    text = fields(
        "batch_norm_param",
        eps=draw(st.sampled_from([1e-5, 0.1])),
        use_global_stats=draw(st.sampled_from([None, True, False])),
    )
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(text, (Bottom((2, *extents(draw, 1, 3))),), phase=phase)


@example_of("MVN")
def mvn(draw: Draw) -> Example:
    text = fields(
        "mvn_param",
        across_channels=draw(st.booleans()),
        normalize_variance=draw(st.booleans()),
        eps=draw(st.sampled_from([1e-9, 0.5])),
    )
    return Example(text, (Bottom(extents(draw, 2, 4)),))
