"""Layer types that NVCaffe defines differently."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields


@example_of("BatchNorm (NVCaffe)")
def batch_norm(draw: Draw) -> Example:
    shape = extents(draw, 2, 4)
    text = fields("batch_norm_param", scale_bias=True, moving_average_fraction=0.9)
    phase = draw(st.sampled_from(["TRAIN", "TEST"]))
    return Example(text, (Bottom((shape[0] + 1, *shape[1:])),), phase=phase)
