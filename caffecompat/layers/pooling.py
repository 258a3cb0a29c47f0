"""Pooling: maximum, average or a random element of windows over spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers._operation import TakeMaximum
from caffecompat.layers._pooling_settings import PoolingSettings, read_settings
from caffecompat.layers._pooling_windows import Windows
from caffecompat.layers._receptive_field import ReceptiveField
from caffecompat.layers._repeatable_gradients import maximum_in_3d

if TYPE_CHECKING:
    from torch import Tensor


@register("Pooling")
class Pooling(Layer):
    """The maximum, the average or a random element of each window.

    Bottom (N, C, H, W); top (N, C, H', W') with extents ceil((in + 2 pad - kernel) / stride) + 1,
    or floor with ``round_mode: FLOOR`` (or the forks' ``ceil_mode: false``). If there is padding, a
    last window that starts at or after in + pad is dropped. With ``global_pooling`` the window is
    the whole plane.

    Of forks: ``pad_l``, ``pad_r``, ``pad_t``, ``pad_b`` pad each side by its own amount and
    ``AVE_EXC_PAD`` (also ``AVE_TF``) is AVE without the padding in the divisor (Synopsys). With one
    ``kernel_size``, ``stride``, ``pad`` and ``dilation`` per axis the bottom may have one to three
    spatial axes, (N, C, D, H, W) for three; ``dilation`` is for MAX.

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
    fork_fields = (
        "pooling_param.ceil_mode",
        "pooling_param.pad_l",
        "pooling_param.pad_r",
        "pooling_param.pad_t",
        "pooling_param.pad_b",
        "pooling_param.axis",
        "pooling_param.dilation",
        "pooling_param.kernel_size_list",
        "pooling_param.stride_list",
        "pooling_param.pad_list",
        "pooling_param.pool: AVE_EXC_PAD",
        "pooling_param.pool: AVE_TF",
    )

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.pooling_param
        self.method = p.PoolMethod.Name(p.pool)
        self.counts_padding = not self.method.startswith("AVE_")
        self.method = self.method.partition("_")[0]
        self.mask = len(message.top) > 1
        self.check(
            self.method == "MAX" or not self.mask, f"{self.method} pooling has no second top (mask)"
        )
        self.ceil = p.ceil_mode if p.HasField("ceil_mode") else p.round_mode == p.CEIL
        self.settings_of_windows = read_settings(self, p, len(bottoms[0]))
        self.kernel = self.settings_of_windows.kernel
        self.stride = self.settings_of_windows.stride
        self.pad = self.settings_of_windows.pad
        self._check_settings(self.settings_of_windows)

    def _check_settings(self, settings: PoolingSettings) -> None:
        padded = any(settings.pad) or any(settings.pad_after)
        self.check(min(settings.stride) > 0, "stride is 0, it must be positive")
        if settings.kernel is None:
            self.check(
                not padded and set(settings.stride) == {1},
                "global_pooling needs pad 0 and stride 1",
            )
            return
        self.check(
            all(
                max(pads) < kernel
                for *pads, kernel in zip(
                    settings.pad, settings.pad_after, settings.kernel, strict=True
                )
            ),
            f"pad {format_shape(settings.pad)} must be smaller than the kernel "
            f"{format_shape(settings.kernel)}",
        )
        plain = len(settings.kernel) == 2 and settings.dilation is None
        self.check(
            self.method != "STOCHASTIC" or (plain and not padded),
            "STOCHASTIC pooling needs pad 0, two spatial axes and no dilation",
        )
        self.check(
            self.method == "MAX" or settings.dilation is None, "dilation is for MAX pooling only"
        )
        self.check(plain or not self.mask, "the second top (mask) needs two spatial axes")

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        if self.kernel is None:
            return "it pools whole maps"
        if len(self.kernel) != field.axes:
            return "its windows do not lie in the axes of the image"
        return field.through(self.windows(self.kernel).extent, self.stride)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        windows = self._windows(x.shape)
        if self.method == "AVE":
            return average(x, windows)
        if self.method == "MAX":
            return maximum_and_index(x, windows) if self.mask else maximum(x, windows)
        return self._stochastic(x, windows)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        bottom = bottoms[0]
        return [(*bottom[:2], *self._windows(bottom).count)] * (1 + self.mask)

    def fusible_operation(self) -> TakeMaximum | None:
        settings = self.settings_of_windows
        plain = type(self) is Pooling and self.method == "MAX" and not self.mask
        if not plain or len(settings.stride) != 2:
            return None
        unpadded = not any(settings.pad) and not any(settings.pad_after)
        two = settings.kernel == settings.stride == (2, 2) and settings.dilation is None
        return TakeMaximum(halves=two and unpadded and self.ceil)

    def windows(self, size: Sequence[int]) -> Windows:
        """The windows in a plane or volume of extents ``size``."""
        settings = self.settings_of_windows
        return Windows(
            tuple(size),
            settings.kernel or tuple(size),
            settings.stride,
            settings.pad,
            self.ceil,
            settings.pad_after,
            settings.dilation,
            self.counts_padding,
        )

    def _windows(self, bottom: Sequence[int]) -> Windows:
        axes = len(self.stride) + 2
        if len(bottom) != axes:
            wanted = f"{axes} axes" + (
                " (N, C, H, W)" if axes == 4 else f", the last {axes - 2} spatial"
            )
            self.refuse(f"the bottom is {format_shape(bottom)}, it must have {wanted}")
        windows = self.windows(bottom[2:])
        if min(windows.count) <= 0:
            self.refuse(
                f"a kernel of {format_shape(windows.kernel)} does not fit into the bottom "
                f"{format_shape(bottom)}; the input is too small"
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
    """Means of (N, C, H, W), or of 1 or 3 spatial axes, over ``windows``."""
    import torch.nn.functional as F

    plain = not any(windows.pad) and not any(windows.after)
    if windows.kernel == windows.size and plain:
        return x.mean(tuple(range(2, x.dim())), keepdim=True)
    ceil = windows.torch_mode()
    if ceil is not None and len(windows.size) == 2:
        return F.avg_pool2d(
            x,
            windows.kernel,
            windows.stride,
            windows.pad,
            ceil_mode=ceil,
            count_include_pad=windows.counts_padding,
        )
    padded = F.pad(x, windows.margins)
    if len(windows.size) == 1:
        kernel, stride = (1, *windows.kernel), (1, *windows.stride)
        sums = F.avg_pool2d(padded.unsqueeze(2), kernel, stride, divisor_override=1).squeeze(2)
    elif len(windows.size) == 2:
        sums = F.avg_pool2d(padded, windows.kernel, windows.stride, divisor_override=1)
    else:
        sums = F.avg_pool3d(padded, windows.kernel, windows.stride, divisor_override=1)
    return sums / windows.divisors(x)


def maximum(x: Tensor, windows: Windows) -> Tensor:
    """Maxima of (N, C, H, W), or of 1 or 3 spatial axes, over ``windows``, without padding."""
    import torch.nn.functional as F

    ceil = windows.torch_mode()
    if ceil is not None and len(windows.size) == 2:
        return F.max_pool2d(x, windows.kernel, windows.stride, windows.pad, ceil_mode=ceil)
    x, dilation = pad_with_lowest(x, windows), windows.dilation or (1,) * len(windows.size)
    if len(windows.size) == 3:
        return maximum_in_3d(x, windows.kernel, windows.stride, dilation)
    over = F.max_pool1d if len(windows.size) == 1 else F.max_pool2d
    pooled: Tensor = over(x, windows.kernel, windows.stride, dilation=dilation)
    return pooled


def maximum_and_index(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Maxima and, in the same type, their indices in the H x W plane."""
    import torch.nn.functional as F

    ceil = windows.torch_mode()
    if ceil is not None:
        values, index = F.max_pool2d(
            x, windows.kernel, windows.stride, windows.pad, ceil_mode=ceil, return_indices=True
        )
        return values, index.to(x.dtype)
    padded = pad_with_lowest(x, windows)
    values, index = F.max_pool2d(padded, windows.kernel, windows.stride, return_indices=True)
    row = index.div(padded.shape[3], rounding_mode="floor") - windows.pad[0]
    column = index % padded.shape[3] - windows.pad[1]
    empty = values <= _lowest(x)
    return values, (row * x.shape[3] + column).masked_fill(empty, -1).to(x.dtype)


def pad_with_lowest(x: Tensor, windows: Windows) -> Tensor:
    """``x`` with the padding of the windows, filled with a value below all others."""
    import torch.nn.functional as F

    return F.pad(x, windows.margins, value=_lowest(x))


def _lowest(x: Tensor) -> float:
    """The initial value of Caffe's maximum: -FLT_MAX."""
    import torch

    return max(torch.finfo(torch.float32).min, torch.finfo(x.dtype).min)
