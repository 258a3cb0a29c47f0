"""Layer types of optical flow, and of oriented responses."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, fields, plane


@example_of("L1Loss (FlowNet)")
def flow_l1_loss(draw: Draw) -> Example:
    text = fields(
        "l1_loss_param",
        l2_per_location=draw(st.booleans()),
        l2_prescale_by_channels=draw(st.booleans()),
        normalize_by_num_entries=draw(st.booleans()),
        plateau=draw(st.sampled_from([0, 0.345])),
    )
    return Example(text, (Bottom(plane(draw)),) * draw(st.integers(1, 2)))


@example_of("L1Loss (NVCaffe, DetectNet)")
def l1_loss(draw: Draw) -> Example:
    return Example("", (Bottom(plane(draw)),) * 2)


@example_of("Correlation", "Correlation1D")
def correlation(draw: Draw) -> Example:
    kernel = draw(st.sampled_from([1, 3]))
    reach = draw(st.integers(1, 2))
    text = fields(
        "correlation_param",
        pad=reach + kernel // 2,
        kernel_size=kernel,
        max_displacement=reach,
        stride_1=draw(st.integers(1, 2)),
        stride_2=draw(st.integers(1, 2)),
        single_direction=draw(st.sampled_from([-1, 0, 1])),
        correlation_type=draw(st.sampled_from(["MULTIPLY", "SUBTRACT"])),
    )
    return Example(text, (Bottom(plane(draw)),) * 2)


@example_of("Resample")
def resample(draw: Draw) -> Example:
    text = fields(
        "resample_param",
        height=draw(st.integers(2, 9)),
        width=draw(st.integers(2, 9)),
        type=draw(st.sampled_from(["NEAREST", "LINEAR", "CUBIC"])),
        antialias=draw(st.booleans()),
    )
    return Example(text, (Bottom(plane(draw)),))


@example_of("FlowWarp", "Warp")
def flow_warp(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    return Example("", (Bottom((n, c, h, w)), Bottom((n, 2, h, w))))


@example_of("Downsample")
def downsample(draw: Draw) -> Example:
    text = fields("downsample_param", top_height=draw(st.integers(2, 6)), top_width=3)
    return Example(text, (Bottom(plane(draw)),))


@example_of("Mean")
def mean(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = fields(
        "mean_param",
        operation=draw(st.sampled_from(["ADD", "SUBTRACT"])),
        value=[0.5] * draw(st.sampled_from([1, c])),
        input_scale=2,
    )
    bottoms = draw(st.integers(1, 2))
    return Example(text, (Bottom((n, c, h, w)),) * bottoms, tops=bottoms)


@example_of("Accum")
def accum(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = fields("accum_param", size_divisible_by=draw(st.sampled_from([None, 4])))
    return Example(text, (Bottom((n, c, h, w)), Bottom((n, 1, w, h))))


@example_of("ChannelNorm")
def channel_norm(draw: Draw) -> Example:
    return Example("", (Bottom(plane(draw)),))


@example_of("Extend", "ORPooling")
def orientations(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    return Example("orn_param { orientations: 2 }", (Bottom((n, 2 * c, h, w)),))


_UNIFORM = "rand_type: 'uniform' exp: true mean: 0.1 spread: 0.2"
_POSITION = (
    "rotate { rand_type: 'uniform_bernoulli' spread: 0.1 prob: 0.5 } mirror { rand_type: "
    "'bernoulli' prob: 0.5 } translate { rand_type: 'gaussian' spread: 0.05 } "
)
_COLOUR = f"gamma {{ {_UNIFORM} }} contrast {{ {_UNIFORM} }} max_multiplier: 1 "


@example_of("DataAugmentation", "GenerateAugmentationParameters")
def augmentation(draw: Draw) -> Example:
    n, h, w = draw(st.integers(1, 3)), draw(st.integers(5, 7)), draw(st.integers(5, 7))
    text = draw(st.sampled_from(["", _POSITION, _COLOUR]))
    return Example(
        f"augmentation_param {{ crop_width: 4 crop_height: 3 {text} }}", (Bottom((n, 3, h, w)),)
    )


@example_of("FlowAugmentation")
def flow_augmentation(draw: Draw) -> Example:
    n, h, w = draw(st.integers(1, 3)), draw(st.integers(5, 7)), draw(st.integers(5, 7))
    text = "augmentation_param { crop_width: 4 crop_height: 3 }"
    rows = Bottom((n, 42, 1, 1), "shares")
    return Example(text, (Bottom((n, 2, h, w)), rows, rows))


@example_of("LpqLoss")
def lpq_loss(draw: Draw) -> Example:
    text = fields(
        "lpq_loss_param",
        p=draw(st.sampled_from([1, 2])),
        q=draw(st.sampled_from([0.4, 0.5])),
        p_epsilon=0.1,
        l2_prescale_by_channels=draw(st.booleans()),
        normalize_by_num_entries=draw(st.booleans()),
    )
    return Example(text, (Bottom(plane(draw)),) * draw(st.integers(1, 2)))
