"""Pooling over two spatial axes: maximum, average, stochastic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers._receptive_field import ReceptiveField

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """The positions of pooling windows in an H x W plane; pairs are (vertical, horizontal)."""

    size: Pair
    kernel: Pair
    stride: Pair
    pad: Pair
    ceil: bool = True

    @property
    def count(self) -> Pair:
        """Extents of the top.

        With ``ceil`` the last window may end outside of the plane. If any pad is non-zero, the last
        window of an axis is dropped if it starts at or after size + pad.
        """
        clip = any(self.pad)

        def along(size: int, kernel: int, stride: int, pad: int) -> int:
            span = size + 2 * pad - kernel
            count = (-(-span // stride) if self.ceil else span // stride) + 1
            return count - 1 if clip and (count - 1) * stride >= size + pad else count

        return self._each(along)

    def torch_mode(self) -> bool | None:
        """The ``ceil_mode`` with which torch's pooling has the same windows; None if neither has.

        torch allows pads up to half the kernel, and its ceil mode drops a window that starts at or
        after size + pad, with or without padding.
        """
        if any(2 * pad > kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            return None

        def floor(size: int, kernel: int, stride: int, pad: int) -> int:
            return (size + 2 * pad - kernel) // stride + 1

        def ceil(size: int, kernel: int, stride: int, pad: int) -> int:
            count = -(-(size + 2 * pad - kernel) // stride) + 1
            return count - 1 if (count - 1) * stride >= size + pad else count

        if self._each(floor) == self.count:
            return False
        return True if self._each(ceil) == self.count else None

    @property
    def margins(self) -> tuple[int, int, int, int]:
        """The padding for ``F.pad`` (negative: cropping) with which all windows fit the plane."""
        after = tuple(
            (count - 1) * stride + kernel - size - pad
            for count, stride, kernel, size, pad in zip(
                self.count, self.stride, self.kernel, self.size, self.pad, strict=True
            )
        )
        return (self.pad[1], after[1], self.pad[0], after[0])

    def divisors(self, like: Tensor) -> Tensor:
        """The divisor of each window's average: its elements inside of plane and padding.

        It is at least 1.
        """
        import torch

        def along(axis: int) -> Tensor:
            start = torch.arange(self.count[axis], device=like.device) * self.stride[axis]
            start = start - self.pad[axis]
            end = (start + self.kernel[axis]).clamp(max=self.size[axis] + self.pad[axis])
            return (end - start).clamp(min=1).to(like.dtype)

        return torch.outer(along(0), along(1))

    def _each(self, along: Callable[[int, int, int, int], int]) -> Pair:
        (h, w), (kh, kw), (sh, sw), (ph, pw) = self.size, self.kernel, self.stride, self.pad
        return (along(h, kh, sh, ph), along(w, kw, sw, pw))


@register("Pooling")
class Pooling(Layer):
    """The maximum, the average or a random element of each window.

    Bottom (N, C, H, W); top (N, C, H', W') with extents ceil((in + 2 pad - kernel) / stride) + 1,
    or floor with ``round_mode: FLOOR`` (or the forks' ``ceil_mode: false``). If there is padding, a
    last window that starts at or after in + pad is dropped. With ``global_pooling`` the window is
    the whole plane.

    - MAX ignores padding; of equal values the first in row-major order is taken. A second top
      holds its index in the plane, h W + w, as a float.
    - AVE divides by the size of the window including padding, up to in + pad.
    - STOCHASTIC (Zeiler and Fergus, 2013): in TRAIN a random element, with a probability
      proportional to its value; in TEST the mean with these probabilities as weights. The bottom
      must not be negative. Caffe implements it for GPUs only, without padding.

    A window without elements (stride greater than kernel) gives the lowest float and index -1 in
    MAX, and 0 otherwise.
    Source: Caffe's Pooling layer.
    """

    tops = between(1, 2)
    in_place = False
    fork_fields = ("pooling_param.ceil_mode",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.pooling_param
        self.method = p.PoolMethod.Name(p.pool)
        self.mask = len(message.top) > 1
        self.check(
            self.method == "MAX" or not self.mask, f"{self.method} pooling has no second top (mask)"
        )
        self.ceil = p.ceil_mode if p.HasField("ceil_mode") else p.round_mode == p.CEIL
        self.kernel = self._kernel(p)
        self.stride = self._pair(p, "stride")
        self.pad = self._pair(p, "pad")
        self.check(min(self.stride) > 0, "stride is 0, it must be positive")
        if self.kernel is None:
            self.check(
                self.pad == (0, 0) and self.stride == (1, 1),
                "global_pooling needs pad 0 and stride 1",
            )
            return
        self.check(
            self.pad[0] < self.kernel[0] and self.pad[1] < self.kernel[1],
            f"pad {format_shape(self.pad)} must be smaller than the kernel "
            f"{format_shape(self.kernel)}",
        )
        self.check(
            self.method != "STOCHASTIC" or self.pad == (0, 0), "STOCHASTIC pooling needs pad 0"
        )

    def _kernel(self, p: Message) -> Pair | None:
        """Kernel extents; None for ``global_pooling``."""
        named = [name for name in ("kernel_size", "kernel_h", "kernel_w") if p.HasField(name)]
        if p.global_pooling:
            self.check(not named, f"global_pooling and {' and '.join(named)} exclude each other")
            return None
        self.check(
            named in (["kernel_size"], ["kernel_h", "kernel_w"]),
            f"it has {' and '.join(named) or 'no kernel'}; give kernel_size, or kernel_h and "
            "kernel_w, or global_pooling",
        )
        kernel = (p.kernel_size,) * 2 if len(named) == 1 else (p.kernel_h, p.kernel_w)
        self.check(min(kernel) > 0, f"kernel is {format_shape(kernel)}, it must be positive")
        return kernel

    def _pair(self, p: Message, stem: str) -> Pair:
        named = [name for name in (stem, f"{stem}_h", f"{stem}_w") if p.HasField(name)]
        self.check(
            named in ([], [stem], [f"{stem}_h", f"{stem}_w"]),
            f"it has {' and '.join(named)}; give {stem}, or both {stem}_h and {stem}_w",
        )
        if len(named) == 2:
            return (getattr(p, f"{stem}_h"), getattr(p, f"{stem}_w"))
        return (getattr(p, stem),) * 2

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        if self.kernel is None:
            return "it pools whole maps"
        return field.through(self.kernel, self.stride)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        windows = self._windows(x)
        if self.method == "AVE":
            return average(x, windows)
        if self.method == "MAX":
            return maximum_and_index(x, windows) if self.mask else maximum(x, windows)
        return self._stochastic(x, windows)

    def _windows(self, x: Tensor) -> Windows:
        self.check(
            x.dim() == 4, f"the bottom is {format_shape(x.shape)}, it must have 4 axes (N, C, H, W)"
        )
        size = (x.shape[2], x.shape[3])
        windows = Windows(size, self.kernel or size, self.stride, self.pad, self.ceil)
        self.check(
            min(windows.count) > 0,
            f"a kernel of {format_shape(windows.kernel)} does not fit into the bottom "
            f"{format_shape(x.shape)}; the input is too small",
        )
        return windows

    def _stochastic(self, x: Tensor, windows: Windows) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = F.pad(x, windows.margins)
        for axis in (0, 1):
            x = x.unfold(2 + axis, windows.kernel[axis], windows.stride[axis])
        elements = x.flatten(4)
        if not self.training:
            smallest = torch.finfo(torch.float32).tiny
            return (elements * elements).sum(-1) / (elements.sum(-1) + smallest)
        cumulative = elements.detach().cumsum(-1)
        share = self.noise.bits(cumulative[..., 0]).to(x.dtype) / 2**31
        chosen = (cumulative < share.unsqueeze(-1) * cumulative[..., -1:]).sum(-1, keepdim=True)
        return elements.gather(-1, chosen).squeeze(-1)


def average(x: Tensor, windows: Windows) -> Tensor:
    """Means of (N, C, H, W) over ``windows``."""
    import torch.nn.functional as F

    if windows.kernel == windows.size and windows.pad == (0, 0):
        return x.mean((2, 3), keepdim=True)
    ceil = windows.torch_mode()
    if ceil is not None:
        return F.avg_pool2d(x, windows.kernel, windows.stride, windows.pad, ceil_mode=ceil)
    padded = F.pad(x, windows.margins)
    sums = F.avg_pool2d(padded, windows.kernel, windows.stride, divisor_override=1)
    return sums / windows.divisors(x)


def maximum(x: Tensor, windows: Windows) -> Tensor:
    """Maxima of (N, C, H, W) over ``windows``, without padding."""
    import torch.nn.functional as F

    ceil = windows.torch_mode()
    if ceil is not None:
        return F.max_pool2d(x, windows.kernel, windows.stride, windows.pad, ceil_mode=ceil)
    return F.max_pool2d(_pad_with_lowest(x, windows), windows.kernel, windows.stride)


def maximum_and_index(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Maxima and, in the same type, their indices in the H x W plane."""
    import torch.nn.functional as F

    ceil = windows.torch_mode()
    if ceil is not None:
        values, index = F.max_pool2d(
            x, windows.kernel, windows.stride, windows.pad, ceil_mode=ceil, return_indices=True
        )
        return values, index.to(x.dtype)
    padded = _pad_with_lowest(x, windows)
    values, index = F.max_pool2d(padded, windows.kernel, windows.stride, return_indices=True)
    row = index.div(padded.shape[3], rounding_mode="floor") - windows.pad[0]
    column = index % padded.shape[3] - windows.pad[1]
    empty = values <= _lowest(x)
    return values, (row * x.shape[3] + column).masked_fill(empty, -1).to(x.dtype)


def _pad_with_lowest(x: Tensor, windows: Windows) -> Tensor:
    import torch.nn.functional as F

    return F.pad(x, windows.margins, value=_lowest(x))


def _lowest(x: Tensor) -> float:
    """The initial value of Caffe's maximum: -FLT_MAX."""
    import torch

    return max(torch.finfo(torch.float32).min, torch.finfo(x.dtype).min)
