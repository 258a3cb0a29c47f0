"""Layer types of hypercolumns, MNC, SubCNN, OpenPose, DenseNet and DeconvNet."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import (
    ELSEWHERE,
    Bottom,
    Draw,
    Example,
    example_of,
    extents,
    fields,
    plane,
)

ELSEWHERE.update(
    {
        "BoxUpsample": "its boxes name maps, see forks/test_box_layers.py",
        "ROIGenerating": "its bottoms belong together, see forks/rcnn/test_subcnn.py",
        "ROIWarping": "its regions name images, see forks/test_box_layers.py",
        "ScaleRoute": "its tops depend on values, see forks/test_box_layers.py",
    }
)


@example_of("HeatmapGenerating")
def heatmap_generating(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    return Example("", (Bottom((n, c + 1, h, w), "positive"),))


@example_of("PickSlice")
def pick_slice(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = f"pick_slice_param {{ channels: {c} }}"
    return Example(text, (Bottom((n, 2 * c, h, w)), Bottom((n,), "flags")))


@example_of("RepMat")
def rep_mat(draw: Draw) -> Example:
    times = {name: draw(st.integers(1, 3)) for name in ("rep_n", "rep_c", "rep_h", "rep_w")}
    return Example(fields("repmat_param", **times), (Bottom(extents(draw, 1, 4, 4)),))


@example_of("LocallyConnected")
def locally_connected(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    grid = draw(st.integers(1, 3))
    text = f"local_layer_param {{ grid_size: {grid} }}"
    return Example(text, (Bottom((n, c * grid * grid, h, w)),))


@example_of("LocallyConnectedWithLoss")
def locally_connected_with_loss(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = "local_layer_param { grid_size: 2 pos_loss_wt: 2 neg_loss_wt: 0.5 }"
    scores = Bottom((n, 4 * c, h, w))
    return Example(text, (scores, Bottom((n, c, h, w), "flags"), Bottom((n,), "shares")))


@example_of("UNPOOLING")
def unpooling(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = fields(
        "unpooling_param",
        unpool=draw(st.sampled_from(["MAX", "AVE", "TILE"])),
        kernel_size=draw(st.integers(1, 3)),
        stride=2,
        unpool_h=draw(st.integers(2 * h, 2 * h + 2)),
        unpool_w=2 * w,
    )
    return Example(text, (Bottom((n, c, h, w)),))


@example_of("Mul")
def mul(draw: Draw) -> Example:
    shape = extents(draw, 2, 4)
    if draw(st.booleans()):
        return Example(f"mul_param {{ mul_shape: {shape[-1]} }}", (Bottom(shape),))
    other = tuple(draw(st.sampled_from([1, e])) for e in shape)
    return Example("", (Bottom(shape), Bottom((shape[0], *other[1:]))))


@example_of("Add", "Maximum")
def broadcast(draw: Draw) -> Example:
    shape = extents(draw, 2, 4)
    other = tuple(draw(st.sampled_from([1, e])) for e in shape)
    return Example("", (Bottom(shape), Bottom((shape[0], *other[1:]))))


@example_of("ImResize")
def im_resize(draw: Draw) -> Example:
    text = fields(
        "imresize_param",
        target_spatial_height=draw(st.integers(1, 11)),
        target_spatial_width=draw(st.integers(1, 11)),
        factor=draw(st.sampled_from([0, 1.5, 2])),
        scale_gap=draw(st.sampled_from([0, 0.3])),
    )
    return Example(text, (Bottom(plane(draw)),))


@example_of("Nms")
def nms(draw: Draw) -> Example:
    n, _, h, w = plane(draw)
    text = "nms_param { threshold: 0.1 max_peaks: 3 num_parts: 2 }"
    return Example(text, (Bottom((n, 3, h, w)),))


@example_of("DenseBlock")
def dense_block(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    text = fields(
        "denseblock_param",
        numTransition=draw(st.integers(1, 2)),
        initChannel=c,
        growthRate=2,
        use_BC=draw(st.booleans()),
        use_dropout=draw(st.booleans()),
        dropout_amount=0.25,
    )
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(text, (Bottom((n, c, h, w)),), phase=phase)


@example_of("GeneralTripletLoss")
def general_triplet_loss(draw: Draw) -> Example:
    n, classes = draw(st.integers(2, 4)), draw(st.integers(2, 4))
    text = fields(
        "general_triplet_loss_param",
        margin=draw(st.sampled_from([0.2, 1])),
        add_center_loss=draw(st.booleans()),
        hardest_only=draw(st.booleans()),
        positive_first=draw(st.booleans()),
    )
    bottoms = (Bottom((n, classes), "positive"), Bottom((n,), "labels", classes))
    return Example(text, bottoms, tops=draw(st.integers(1, 2)))
