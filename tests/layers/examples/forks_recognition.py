"""Layer types of faces, metric learning and binary codes."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields, plane


def features_and_labels(draw: Draw) -> tuple[int, tuple[Bottom, Bottom]]:
    n, c = extents(draw, 2, 2)
    classes = draw(st.integers(2, 4))
    return classes, (Bottom((n, c + 1)), Bottom((n,), "labels", classes))


@example_of("CenterLoss")
def center_loss(draw: Draw) -> Example:
    classes, bottoms = features_and_labels(draw)
    kind = draw(st.sampled_from(["'L1'", "'L2'"]))
    return Example(fields("center_loss_param", num_output=classes, distance_type=kind), bottoms)


MARGINS = ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"]


def margin_fields(draw: Draw, name: str, classes: int) -> str:
    return fields(
        name,
        num_output=classes,
        type=draw(st.sampled_from(MARGINS)),
        base=draw(st.sampled_from([0, 10])),
        gamma=0.1,
        power=1,
        lambda_min=draw(st.sampled_from([0, 2])),
    )


@example_of("MarginInnerProduct")
def margin_inner_product(draw: Draw) -> Example:
    classes, bottoms = features_and_labels(draw)
    return Example(margin_fields(draw, "margin_inner_product_param", classes), bottoms)


@example_of("LargeMarginInnerProduct")
def large_margin_inner_product(draw: Draw) -> Example:
    classes, bottoms = features_and_labels(draw)
    text = margin_fields(draw, "largemargin_inner_product_param", classes)
    if draw(st.booleans()) and classes != bottoms[0].shape[0]:
        return Example(text, (*bottoms, Bottom((classes, bottoms[0].shape[1]))))
    return Example(text, bottoms)


@example_of("LabelSpecificAdd")
def label_specific_add(draw: Draw) -> Example:
    n, c = extents(draw, 2, 2)
    text = fields("label_specific_add_param", bias=-0.4)
    labels = Bottom((n,), "labels", c + 1)
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(text, (Bottom((n, c + 1)), labels), phase=phase)


@example_of("InnerDistance")
def inner_distance(draw: Draw) -> Example:
    n, c = extents(draw, 2, 2)
    kind = draw(st.sampled_from(["'L1'", "'L2'"]))
    text = fields("inner_distance_param", num_output=3, distance_type=kind)
    bottoms = (Bottom((n, c)),)
    return Example(text, bottoms)


@example_of("GeneralContrastiveLoss")
def general_contrastive_loss(draw: Draw) -> Example:
    n, c = extents(draw, 2, 2)
    text = fields(
        "general_contrastive_loss_param",
        positive_margin=draw(st.sampled_from([0, 0.3])),
        negative_margin=1.5,
        positive_weight=2,
        exp_negative_weight=draw(st.booleans()),
        max_negative_only=draw(st.booleans()),
    )
    bottoms = (Bottom((n, c + 1), "positive"), Bottom((n,), "labels", c + 1))
    return Example(text, bottoms, tops=draw(st.integers(1, 2)))


@example_of("TripletLoss")
def triplet_loss(draw: Draw) -> Example:
    shape = extents(draw, 2, 2)
    return Example("triplet_loss_param { margin: 0.7 }", (Bottom(shape),) * 3)


@example_of("EvenDistLoss", "MinQuantizeLoss")
def binary_codes(draw: Draw) -> Example:
    shape = extents(draw, 2, 2)
    return Example("", (Bottom(shape), Bottom(shape)))


@example_of("TransformLoss")
def transform_loss(draw: Draw) -> Example:
    n, c = extents(draw, 2, 2)
    return Example(
        "", (Bottom((n, c)), Bottom((n, c)), Bottom((n,), "flags"), Bottom((n,), "flags"))
    )


@example_of("SoftTruncation")
def soft_truncation(draw: Draw) -> Example:
    return Example("soft_truncation_param { c: 3 }", (Bottom(extents(draw, 1, 4)),))


@example_of("Flip")
def flip(draw: Draw) -> Example:
    text = fields("flip_param", flip_width=draw(st.booleans()), flip_height=draw(st.booleans()))
    return Example(text, (Bottom(plane(draw)),))


@example_of("ChannelScale")
def channel_scale(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = fields("channel_scale_param", do_forward=True)
    return Example(text, (Bottom((n, c, h, w)), Bottom((n, 1, h, w))))
