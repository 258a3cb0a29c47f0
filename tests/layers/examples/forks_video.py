"""Layer types of clips of video."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, fields


def temporal(draw: Draw, name: str) -> tuple[str, Bottom]:
    length, height, width = draw(st.permutations([3, 4, 5]))
    text = fields(
        name,
        kernel_size=draw(st.integers(1, 3)),
        kernel_depth=draw(st.integers(1, 3)),
        stride=draw(st.integers(1, 2)),
        temporal_stride=draw(st.integers(1, 2)),
    )
    return text, Bottom((draw(st.integers(1, 2)), 2, length, height, width))


@example_of("CONVOLUTION3D")
def old_convolution(draw: Draw) -> Example:
    text, bottom = temporal(draw, "convolution_param")
    more = f" num_output: 2 pad: {draw(st.integers(0, 1))} temporal_pad: 1 }}"
    return Example(text.removesuffix(" }") + more, (bottom,))


@example_of("Convolution3D")
def convolution(draw: Draw) -> Example:
    text, bottom = temporal(draw, "convolution3d_param")
    return Example(text.removesuffix(" }") + " num_output: 3 temporal_pad: 1 }", (bottom,))


@example_of("POOLING3D")
def old_pooling(draw: Draw) -> Example:
    text, bottom = temporal(draw, "pooling_param")
    method = draw(st.sampled_from(["MAX", "AVE"]))
    return Example(f"{text.removesuffix(' }')} pool: {method} }}", (bottom,))


@example_of("Pooling3D")
def pooling(draw: Draw) -> Example:
    text, bottom = temporal(draw, "pooling3d_param")
    return Example(text, (bottom,))


@example_of("BatchReduction")
def batch_reduction(draw: Draw) -> Example:
    operation = draw(st.sampled_from(["SUM", "MEAN", "TOPK"]))
    text, count = draw(st.sampled_from([("", 4), ("level: 1 level: 2", 5), ("level: 2", 4)]))
    if operation == "TOPK" and count == 5:
        operation = "MEAN"
    reduction = f"reduction_param {{ operation: {operation} axis: 1 k: 2 }}"
    shape = (draw(st.integers(1, 3)), count, draw(st.integers(1, 3)))
    return Example(f"batch_reduction_param {{ {text} {reduction} }}", (Bottom(shape),))


@example_of("Gather")
def gather(draw: Draw) -> Example:
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    return Example("", (Bottom(shape), Bottom((*shape, 2))), 2)
