"""Layers that move, cut, join or reduce."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, axis_of, example_of, extents, fields


@example_of("Slice")
def slice_(draw: Draw) -> Example:
    shape = list(extents(draw, 1, 4))
    axis = axis_of(draw, shape)
    pieces = draw(st.integers(1, 3))
    points = []
    if draw(st.booleans()):
        shape[axis] = 7
        points = sorted(draw(st.permutations([1, 2, 4, 6]))[: pieces - 1])
    else:
        shape[axis] = 2 * pieces
    text = fields("slice_param", axis=axis, slice_point=points)
    return Example(text, (Bottom(tuple(shape)),), tops=pieces)


@example_of("Reshape")
def reshape(draw: Draw) -> Example:
    fragment = draw(
        st.sampled_from(
            [
                "shape { dim: 0 dim: -1 dim: 2 }",
                "shape { dim: 4 dim: 2 } axis: -3",
                "shape { dim: 2 dim: 2 } axis: 2 num_axes: 1",
                "shape { dim: 1 dim: 1 } axis: -1",
                "shape { dim: -1 } axis: 1 num_axes: 2",
                "shape { dim: 1 } axis: 1 num_axes: 0",
            ]
        )
    )
    return Example(f"reshape_param {{ {fragment} }}", (Bottom((3, 2, 4)),))


@example_of("Crop")
def crop(draw: Draw) -> Example:
    shape = [e + 1 for e in extents(draw, 2, 4)]
    axis = draw(st.integers(0, len(shape) - 1))
    offsets = [draw(st.integers(0, extent - 1)) for extent in shape[axis:]]
    rest = [extent - offset for extent, offset in zip(shape[axis:], offsets, strict=True)]
    cut = [draw(st.integers(1, extent)) for extent in rest]
    reference = (*(9 for _ in shape[:axis]), *cut)
    text = fields("crop_param", axis=axis - draw(st.sampled_from([0, len(shape)])), offset=offsets)
    return Example(text, (Bottom(tuple(shape)), Bottom(reference)))


@example_of("Tile")
def tile(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    text = fields("tile_param", axis=axis_of(draw, shape), tiles=draw(st.integers(1, 3)))
    return Example(text, (Bottom(shape),))


@example_of("ArgMax")
def arg_max(draw: Draw) -> Example:
    shape = (2, *(e + 1 for e in extents(draw, 1, 4)))
    axis = draw(st.sampled_from([None, 1, -1]))
    text = fields(
        "argmax_param",
        axis=axis,
        top_k=draw(st.integers(1, 2)),
        out_max_val=draw(st.booleans()),
    )
    return Example(text, (Bottom(shape),))


@example_of("Reduction")
def reduction(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    text = fields(
        "reduction_param",
        operation=draw(st.sampled_from(["SUM", "ASUM", "SUMSQ", "MEAN"])),
        axis=axis_of(draw, shape),
        coeff=draw(st.sampled_from([1, -0.7])),
    )
    return Example(text, (Bottom(shape),))


@example_of("Concat")
def concat(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    along = axis_of(draw, shape)
    bottoms = []
    for extra in range(draw(st.integers(1, 3))):
        extended = list(shape)
        extended[along] += extra
        bottoms.append(Bottom(tuple(extended)))
    return Example(fields("concat_param", axis=along), tuple(bottoms))


@example_of("Flatten")
def flatten(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    axis = draw(st.integers(0, len(shape) - 1))
    end = draw(st.integers(max(axis - 1, 0), len(shape) - 1))
    return Example(fields("flatten_param", axis=axis, end_axis=end), (Bottom(shape),))


@example_of("Split")
def split(draw: Draw) -> Example:
    return Example("", (Bottom(extents(draw, 1, 4)),), tops=draw(st.integers(1, 3)))


@example_of("Silence")
def silence(draw: Draw) -> Example:
    return Example("", (Bottom(extents(draw, 1, 4)),) * draw(st.integers(1, 2)), tops=0)


@example_of("BatchReindex")
def batch_reindex(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    return Example("", (Bottom(shape), Bottom((4,), "labels", shape[0])))


@example_of("Filter")
def filter_(draw: Draw) -> Example:
    n, *rest = extents(draw, 1, 4)
    return Example("", (Bottom((n, *rest)), Bottom((n, 2)), Bottom((n, 1), "flags")), tops=2)
