"""Masks, locally connected layers, sums and resizing of forks."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import (
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
