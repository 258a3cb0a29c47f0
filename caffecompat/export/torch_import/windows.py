"""Kernel, stride and pad of torch as fields of a ConvolutionParameter or PoolingParameter."""

from __future__ import annotations

from collections.abc import Iterator

Pair = tuple[int, int]

# The fields for both axes together, with those for one axis and the default.
_FIELDS = (
    ("kernel_size", ("kernel_h", "kernel_w"), None),
    ("stride", ("stride_h", "stride_w"), (1, 1)),
    ("pad", ("pad_h", "pad_w"), (0, 0)),
)
FOR_BOTH_AXES = tuple(name for name, _, _ in _FIELDS)


def window_fields(kernel: Pair, stride: Pair, padding: Pair) -> Iterator[tuple[str, int]]:
    """Names and values of the fields to set, one where height equals width."""
    for (both, each, default), pair in zip(_FIELDS, (kernel, stride, padding), strict=True):
        if pair == default:
            continue
        if pair[0] == pair[1]:
            yield both, pair[0]
        else:
            yield from zip(each, pair, strict=True)
