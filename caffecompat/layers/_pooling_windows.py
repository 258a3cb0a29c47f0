"""The positions of pooling windows, in Caffe and in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._pooling_settings import Extents

if TYPE_CHECKING:
    from torch import Tensor


def torch_count(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> int:
    """How many windows torch's pooling has along an axis of ``size``, by its ``ceil_mode``."""
    span = size + 2 * pad - kernel
    if not ceil:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pad else count


@dataclass(frozen=True)
class Windows:
    """The positions of pooling windows in a plane or volume.

    Each setting has one entry per spatial axis, H before W.

    Attributes:
        pad: the padding before the plane.
        pad_after: the padding after the plane; None if it is the same.
        dilation: the distance of a window's elements; None for 1.
        counts_padding: whether an average divides by the elements in the padding too.
    """

    size: Extents
    kernel: Extents
    stride: Extents
    pad: Extents
    ceil: bool = True
    pad_after: Extents | None = None
    dilation: Extents | None = None
    counts_padding: bool = True

    @property
    def after(self) -> Extents:
        """The padding after the plane."""
        return self.pad if self.pad_after is None else self.pad_after

    @property
    def extent(self) -> Extents:
        """The extents of a window: dilation (kernel - 1) + 1."""
        if self.dilation is None:
            return self.kernel
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def count(self) -> Extents:
        """Extents of the top.

        With ``ceil`` the last window may end outside of the plane. If any pad is non-zero, the last
        window of an axis is dropped if it starts at or after size + pad.
        """
        clip = any(self.pad) or any(self.after)
        found = []
        for size, extent, stride, pad, after in zip(
            self.size, self.extent, self.stride, self.pad, self.after, strict=True
        ):
            span = size + pad + after - extent
            count = (-(-span // stride) if self.ceil else span // stride) + 1
            found.append(count - 1 if clip and (count - 1) * stride >= size + pad else count)
        return tuple(found)

    def torch_mode(self) -> bool | None:
        """The ``ceil_mode`` with which torch's pooling has the same windows; None if neither has.

        torch allows pads up to half the kernel, and its ceil mode drops a window that starts at or
        after size + pad, with or without padding.
        """
        if self.dilation is not None or self.after != self.pad:
            return None
        floor = ceil = True
        for size, kernel, stride, pad, count in zip(
            self.size, self.kernel, self.stride, self.pad, self.count, strict=True
        ):
            if 2 * pad > kernel:
                return None
            floor = floor and torch_count(size, kernel, stride, pad, False) == count
            ceil = ceil and torch_count(size, kernel, stride, pad, True) == count
        return False if floor else True if ceil else None

    @property
    def margins(self) -> Extents:
        """The padding for ``F.pad`` (negative: cropping) with which all windows fit the plane."""
        after = (
            (count - 1) * stride + extent - size - pad
            for count, stride, extent, size, pad in zip(
                self.count, self.stride, self.extent, self.size, self.pad, strict=True
            )
        )
        pairs = [(pad, more) for pad, more in zip(self.pad, after, strict=True)]
        return tuple(value for pair in reversed(pairs) for value in pair)

    def divisors(self, like: Tensor) -> Tensor:
        """The divisor of each window's average, in the shape of :attr:`count`; at least 1.

        It is the number of elements inside of plane and padding, or of the plane alone.
        """
        import torch

        product = like.new_ones(())
        for axis in range(len(self.size)):
            start = torch.arange(self.count[axis], device=like.device) * self.stride[axis]
            start = start - self.pad[axis]
            end = start + self.kernel[axis]
            if self.counts_padding:
                end = end.clamp(max=self.size[axis] + self.after[axis])
            else:
                start, end = start.clamp(min=0), end.clamp(max=self.size[axis])
            product = product.unsqueeze(-1) * (end - start).clamp(min=1).to(like.dtype)
        return product
