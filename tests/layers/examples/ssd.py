"""Layers of SSD that work on any values."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields, plane


@example_of("Permute")
def permute(draw: Draw) -> Example:
    shape = extents(draw, 2, 4)
    named = draw(st.permutations(range(len(shape))))[: draw(st.integers(0, len(shape)))]
    return Example(fields("permute_param", order=named), (Bottom(shape),))


@example_of("Normalize (SSD, ParseNet)")
def normalize(draw: Draw) -> Example:
    text = fields(
        "norm_param",
        across_spatial=draw(st.booleans()),
        channel_shared=draw(st.booleans()),
        eps=draw(st.sampled_from([None, 0.01])),
    )
    return Example(text, (Bottom(extents(draw, 2, 4)),))


@example_of("Normalize (NormFace, AMSoftmax)")
def normalize_features(draw: Draw) -> Example:
    text = fields(
        "normalize_param",
        normalize_type=draw(st.sampled_from(['"L1"', '"L2"'])),
        bp_norm=draw(st.booleans()),
    )
    return Example(text, (Bottom(extents(draw, 2, 4)),), tops=draw(st.integers(1, 2)))


@example_of("SmoothL1Loss")
def smooth_l1(draw: Draw) -> Example:
    shape = extents(draw, 2, 4)
    bottoms = tuple(Bottom(shape) for _ in range(draw(st.integers(2, 4))))
    text = fields("smooth_l1_loss_param", sigma=draw(st.sampled_from([None, 3.0])))
    return Example(text, bottoms)


@example_of("PriorBox")
def prior_box(draw: Draw) -> Example:
    text = fields(
        "prior_box_param",
        min_size=[3.7, 5],
        max_size=draw(st.sampled_from([None, [6, 9.2]])),
        aspect_ratio=draw(st.sampled_from([None, [2], [1, 2, 0.5]])),
        flip=draw(st.booleans()),
        clip=draw(st.booleans()),
        variance=draw(st.sampled_from([None, 0.2, [0.1, 0.2, 0.3, 0.4]])),
        step=draw(st.sampled_from([None, 4])),
    )
    return Example(text, (Bottom(plane(draw)), Bottom((1, 3, 20, 30))))


@example_of("PriorBoxClustered")
def prior_box_clustered(draw: Draw) -> Example:
    text = fields("prior_box_param", width=[3.5, 8], height=[4, 2.5], img_h=20, img_w=30)
    return Example(text, (Bottom(plane(draw)), Bottom((1, 3, 20, 30))))
