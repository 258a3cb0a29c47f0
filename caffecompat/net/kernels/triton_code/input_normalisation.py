"""The arithmetic of deferred crops as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def normalise(
    pixels,
    mean,
    shifts,
    blob,
    scale,
    channels,
    stored,
    plane,
    MEAN: tl.constexpr,
    SHIFTED: tl.constexpr,
    SCALED: tl.constexpr,
    PIXELS_LAST: tl.constexpr,
    BLOB_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """blob = (pixels - mean + shifts) * scale, step by step in fp32.

    ``MEAN``: 0 none, 1 one for each channel, 2 one for each element. ``PIXELS_LAST`` and
    ``BLOB_LAST``: whether the channels of each lie innermost in memory. The blob lies there with
    ``stored`` channels, those after the first ``channels`` being zeros. The grid is blocks of one
    sample by samples.
    """
    sample = tl.program_id(1).to(tl.int64)
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < stored * plane
    if BLOB_LAST:
        channel = offset % stored
        place = offset // stored
    else:
        channel = offset // plane
        place = offset % plane
    if PIXELS_LAST:
        at = place * channels + channel
    else:
        at = channel * plane + place
    present = inside & (channel < channels)
    start = sample * (channels * plane)
    value = tl.load(pixels + start + at, mask=present, other=0).to(tl.float32)
    if MEAN == 1:
        value = value - tl.load(mean + channel, mask=present, other=0.0)
    if MEAN == 2:
        value = value - tl.load(mean + channel * plane + place, mask=present, other=0.0)
    if SHIFTED:
        value = value + tl.load(shifts + sample * channels + channel, mask=present, other=0.0)
    if SCALED:
        value = value * scale
    to = blob + sample * (stored * plane) + offset
    tl.store(to, value.to(blob.dtype.element_ty), mask=inside)
