"""Kernel, stride and pad as fields of a ConvolutionParameter or PoolingParameter."""

from __future__ import annotations

from caffecompat.proto.schema import Message

Pair = tuple[int, int]

# The field for both axes, those for one axis each, and the default.
_FIELDS = (
    ("kernel_size", ("kernel_h", "kernel_w"), None),
    ("stride", ("stride_h", "stride_w"), (1, 1)),
    ("pad", ("pad_h", "pad_w"), (0, 0)),
)


def set_windows(p: Message, kernel: Pair, stride: Pair, pad: Pair) -> None:
    """Sets the fields that are no defaults, one field where height equals width."""
    for (both, each, default), pair in zip(_FIELDS, (kernel, stride, pad), strict=True):
        if pair == default:
            continue
        if pair[0] != pair[1]:
            for name, value in zip(each, pair, strict=True):
                setattr(p, name, value)
        elif hasattr(getattr(p, both), "append"):
            # Repeated in a ConvolutionParameter, which may have any number of axes.
            getattr(p, both).append(pair[0])
        else:
            setattr(p, both, pair[0])
