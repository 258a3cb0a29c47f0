"""Layers that multiply with weights or look through windows."""

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


@example_of("InnerProduct")
def inner_product(draw: Draw) -> Example:
    shape = extents(draw, 2, 4)
    text = fields(
        "inner_product_param",
        num_output=draw(st.integers(1, 4)),
        axis=axis_of(draw, shape),
        bias_term=draw(st.booleans()),
        transpose=draw(st.booleans()),
    )
    return Example(text, (Bottom(shape),))


@example_of("Convolution")
def convolution(draw: Draw) -> Example:
    return _convolution(draw, draw(st.integers(0, 4)))


def _convolution(draw: Draw, axes: int) -> Example:
    """A convolution along so many axes."""
    group = draw(st.sampled_from([1, 2]))
    channels, outputs = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 2))
    spatial = draw(st.permutations([3, 4, 5, 6]))[:axes]
    batch = extents(draw, 0, 1, greatest=3)
    shape = (*batch, channels, *spatial)
    bottoms = draw(st.integers(1, 2)) if axes < 3 else 1
    text = fields(
        "convolution_param",
        num_output=outputs,
        group=group,
        axis=len(batch),
        kernel_size=[draw(st.integers(1, 3)) for _ in range(axes)],
        stride=[draw(st.integers(1, 3)) for _ in range(axes)],
        pad=[draw(st.integers(0, 2)) for _ in range(axes)],
        dilation=[draw(st.integers(1, 2)) for _ in range(axes)],
        bias_term=draw(st.booleans()),
    )
    # Dilated kernels reach 5, which the least padded extent may lack.
    if any(extent < 5 for extent in spatial):
        text = text.replace("dilation: 2", "dilation: 1")
    return Example(text, (Bottom(shape),) * bottoms, tops=bottoms)


@example_of("Deconvolution")
def deconvolution(draw: Draw) -> Example:
    return _other_filters(draw, draw(st.integers(0, 4)))


@example_of("Im2col")
def im2col(draw: Draw) -> Example:
    return _other_filters(draw, draw(st.integers(1, 4)))


def _other_filters(draw: Draw, axes: int) -> Example:
    example = _convolution(draw, axes)
    # No kernel larger than its input, no padding that leaves nothing.
    text = example.text.replace("pad: 2", "pad: 0").replace("dilation: 2", "dilation: 1")
    return Example(text.replace("kernel_size: 1", "kernel_size: 3"), example.bottoms[:1])


@example_of("Pooling")
def pooling(draw: Draw) -> Example:
    method = draw(st.sampled_from(["MAX", "AVE"]))
    if draw(st.integers(0, 5)) == 0:
        text = fields("pooling_param", pool=method, global_pooling=True)
        return Example(text, (Bottom(plane(draw)),))
    kernels = [draw(st.integers(1, 4)) for _ in "hw"]
    text = fields(
        "pooling_param",
        pool=method,
        kernel_h=kernels[0],
        kernel_w=kernels[1],
        stride_h=draw(st.integers(1, 3)),
        stride_w=draw(st.integers(1, 3)),
        pad_h=draw(st.integers(0, kernels[0] - 1)),
        pad_w=draw(st.integers(0, kernels[1] - 1)),
        round_mode=draw(st.sampled_from(["CEIL", "FLOOR"])),
    )
    tops = draw(st.integers(1, 2)) if method == "MAX" else 1
    return Example(text, (Bottom(plane(draw)),), tops=tops)


@example_of("SPP")
def spp(draw: Draw) -> Example:
    height = draw(st.integers(1, 3))
    shape = plane(draw) if height < 3 else (2, 1, 7, 8)
    pool = draw(st.sampled_from(["MAX", "AVE"]))
    return Example(fields("spp_param", pyramid_height=height, pool=pool), (Bottom(shape),))


@example_of("Embed")
def embed(draw: Draw) -> Example:
    text = fields("embed_param", num_output=3, input_dim=5, bias_term=draw(st.booleans()))
    return Example(text, (Bottom(extents(draw, 1, 3), "labels", 5),))


@example_of("Parameter")
def parameter(draw: Draw) -> Example:
    shape = fields("shape", dim=extents(draw, 0, 3))
    return Example(f"parameter_param {{ {shape} }}", ())
