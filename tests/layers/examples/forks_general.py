"""Masks, locally connected layers, sums and resizing of forks."""

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


@example_of("MaskPooling")
def mask_pooling(draw: Draw) -> Example:
    n, c, h, w = plane(draw)
    return Example("", (Bottom((n, c, h, w)), Bottom((n, 1, h, w), "shares")))


@example_of("MaskResize")
def mask_resize(draw: Draw) -> Example:
    text = fields(
        "mask_resize_param",
        output_height=draw(st.integers(1, 9)),
        output_width=draw(st.integers(1, 9)),
    )
    return Example(text, (Bottom(plane(draw)),))


@example_of("ResizeBilinear")
def resize_bilinear(draw: Draw) -> Example:
    mode = draw(st.sampled_from([None, "align_corners", "half_pixel_centers"]))
    text = fields(
        "resize_bilinear_param",
        output_height=draw(st.integers(1, 9)),
        output_width=draw(st.integers(1, 9)),
        data_format=draw(st.sampled_from(['"NHWC"', '"NCHW"'])),
        **({} if mode is None else {mode: True}),
    )
    return Example(text, (Bottom(plane(draw)),))


@example_of("LOCAL")
def local(draw: Draw) -> Example:
    text = fields(
        "local_param",
        num_output=draw(st.integers(1, 3)),
        kernel_size=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 2)),
        pad=draw(st.integers(0, 1)),
        bias_term=draw(st.booleans()),
    )
    return Example(text, (Bottom(plane(draw)),))


@example_of("Sum")
def several(draw: Draw) -> Example:
    return Example("", (Bottom(extents(draw, 1, 4)),) * draw(st.integers(1, 3)))


@example_of("Resize (NormFace)")
def resize(draw: Draw) -> Example:
    text = fields("resize_param", height=draw(st.integers(1, 9)), width=draw(st.integers(1, 9)))
    return Example(text, (Bottom(plane(draw)),))


@example_of("Resize (Wei Zhen)")
def resize_square(draw: Draw) -> Example:
    n, c, side, _ = plane(draw)
    kind = draw(st.sampled_from(["NEAREST", "BILINEAR"]))
    text = fields(
        "resize_param",
        function_type="FACTOR_GIVEN",
        intepolation_type=kind,
        resize_factor=draw(st.sampled_from([0.5, 1, 1.5, 2])),
    )
    return Example(text, (Bottom((n, c, side, side)),))


ELSEWHERE["Convolution (HD-CNN)"] = "reads files: forks/test_hdcnn.py"


@example_of("Convolution (ORN)")
def oriented_convolution(draw: Draw) -> Example:
    n, _, h, w = plane(draw)
    count = draw(st.sampled_from([4, 8]))
    text = fields(
        "convolution_param",
        num_output=count,
        kernel_size=draw(st.sampled_from([1, 3])),
        pad=draw(st.integers(0, 1)),
        bias_term=draw(st.booleans()),
    )
    return Example(f"{text} orn_param {{ orientations: {count} }}", (Bottom((n, count, h, w)),))


@example_of("MIL")
def mil(draw: Draw) -> Example:
    kind = draw(st.sampled_from(["MAX", "NOR"]))
    return Example(f"mil_param {{ type: {kind} }}", (Bottom(plane(draw), "shares"),))


@example_of("Pad")
def pad(draw: Draw) -> Example:
    shape = draw(st.sampled_from([(2, 3), (2, 3, 2), (1, 2, 3, 2)]))
    paddings = [0, 0] + [draw(st.integers(0, 2)) for _ in shape[1:] for _ in "ab"]
    text = " ".join(f"paddings: {p}" for p in paddings)
    return Example(f"pad_param {{ {text} constant_values: 0.5 }}", (Bottom(shape),))


@example_of("ResizeNearestNeighbor")
def resize_nearest_neighbor(draw: Draw) -> Example:
    mode = draw(st.sampled_from(["", "align_corners: true", "half_pixel_onnx: true"]))
    sizes = f"output_height: {draw(st.integers(1, 6))} output_width: {draw(st.integers(1, 6))}"
    return Example(
        f"resize_nearest_neighbor_param {{ {sizes} {mode} data_format: 'NCHW' }}",
        (Bottom(plane(draw)),),
    )
