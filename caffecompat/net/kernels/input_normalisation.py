"""The blob of crops that come to the device as bytes: (pixels - mean + shifts) * scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffecompat.net.kernels.launching import OPTIONS, launching
from caffecompat.net.kernels.memory_format import (
    dense,
    empty_stored,
    fits_a_grid,
    is_channels_last,
    order_of,
)

_BLOCK = 1024


@dataclass(frozen=True)
class Crops:
    """Deferred crops on the device; see ``caffecompat.data.transforms.deferred_crops``.

    Attributes:
        pixels: uint8, (N, C, H, W).
        mean: fp32, (C, H, W) or (C or 1, 1, 1); None to skip the step.
        shifts: fp32, (N, C, 1, 1); None to skip the step.
        scale: 1 to skip the step.
    """

    pixels: Tensor
    mean: Tensor | None
    shifts: Tensor | None
    scale: float


@dataclass(frozen=True)
class BlobForm:
    """The form of the blob (N, C, H, W).

    Attributes:
        dtype: of its numbers.
        channels_last: whether its channels lie innermost in memory.
        stored: the channels that it lies in memory with, those after the first C being zeros; only
            with ``channels_last``. 0 for C.
    """

    dtype: torch.dtype
    channels_last: bool
    stored: int = 0

    def empty(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Memory for a blob with all its stored channels."""
        if self.stored:
            return empty_stored(shape, self.stored, self.dtype, device)
        form = order_of(self.channels_last)
        return torch.empty(tuple(shape), dtype=self.dtype, device=device, memory_format=form)


def normalised(crops: Crops, form: BlobForm, kernel: bool) -> Tensor:
    """The blob, step by step in fp32, then rounded to the number type of ``form``."""
    if kernel and crops.pixels.dim() == 4:
        blob = form.empty(crops.pixels.shape, crops.pixels.device)
        if fits_a_grid(blob):
            return _launch(crops, blob)
    return normalised_by_torch(crops, form)


def normalised_by_torch(crops: Crops, form: BlobForm) -> Tensor:
    """:func:`normalised` in torch operators."""
    blob = crops.pixels.float()
    if crops.mean is not None:
        blob -= crops.mean
    if crops.shifts is not None:
        blob += crops.shifts
    if crops.scale != 1:
        blob *= crops.scale
    if form.stored:
        whole = form.empty(blob.shape, blob.device).zero_()
        return whole[:, : blob.shape[1]].copy_(blob)
    last = blob.dim() == 4 and form.channels_last
    return blob.contiguous(memory_format=order_of(last)).to(form.dtype)


def _launch(crops: Crops, blob: Tensor) -> Tensor:
    """Fills ``blob`` with all its stored channels; returns the first C."""
    import triton

    from caffecompat.net.kernels.triton_code import input_normalisation as code

    pixels = dense(crops.pixels)
    samples, channels, height, width = pixels.shape
    stored = blob.shape[1]
    kind, mean = 0, pixels
    if crops.mean is not None:
        whole = crops.mean.shape[-2:] != (1, 1)
        kind = 2 if whole else 1
        shape = (channels, height, width) if whole else (channels, 1, 1)
        mean = crops.mean.expand(shape).contiguous()
    shifts = pixels if crops.shifts is None else crops.shifts.contiguous()
    with launching("normalisation", pixels):
        code.normalise[(triton.cdiv(stored * height * width, _BLOCK), samples)](
            *(pixels, mean, shifts, blob, crops.scale, channels, stored, height * width),
            MEAN=kind,
            SHIFTED=crops.shifts is not None,
            SCALED=crops.scale != 1,
            PIXELS_LAST=is_channels_last(pixels),
            BLOB_LAST=is_channels_last(blob),
            BLOCK=_BLOCK,
            **OPTIONS,
        )
    return blob[:, :channels] if stored > channels else blob
