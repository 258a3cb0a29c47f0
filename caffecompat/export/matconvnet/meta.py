"""What a MatConvNet file says about images: their size, and what happens to them before the net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import FormatError
from caffecompat.export.matconvnet.layers import MatLayer, texts

Shape = tuple[int, int, int]
COLOURS = 3
CHANNEL_DIM = 3


def read_meta(variables: dict[str, Any]) -> dict[str, Any]:
    """``meta``; in files from before beta17 its parts are variables of their own."""
    return _part(variables, "meta") or variables


def _part(meta: dict[str, Any], name: str) -> dict[str, Any]:
    found = meta.get(name)
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}


def input_shape(meta: dict[str, Any], layers: list[MatLayer], path: Path) -> Shape:
    for place, key in (("inputs", "size"), ("normalization", "imageSize")):
        size = np.asarray(_part(meta, place).get(key, ()))
        if size.dtype.kind in "fiu" and size.size >= 2:
            height, width, *more = (int(n) for n in size.reshape(-1))
            if min(height, width) < 1 or max(height, width) > 1 << 16:
                raise FormatError(f"{path}: the size of its images is {height} x {width}")
            return _channels(layers, more), height, width
    raise FormatError(
        f"{path}: it does not say the size of its images (meta.normalization.imageSize)"
    )


def _channels(layers: list[MatLayer], stated: list[int]) -> int:
    first = layers[0].arrays if layers else []
    if stated:
        return max(1, stated[0])
    return first[0].shape[2] if first and first[0].ndim > 2 else COLOURS


def preprocessing_of(meta: dict[str, Any], swapped: bool) -> Preprocessing | None:
    """What ``meta.normalization`` says about images, for the channels that the net takes."""
    normalization = _part(meta, "normalization")
    mean = np.asarray(normalization.get("averageImage", ()))
    size = np.asarray(normalization.get("imageSize", ()))
    if mean.dtype.kind not in "fiu" or size.dtype.kind not in "fiu" or size.size < 2:
        return None
    gray = size.size > 2 and int(size.flat[2]) == 1
    values = _channel_means(mean)
    crop = int(size.flat[0]), int(size.flat[1])
    bicubic = str(normalization.get("interpolation", "")) == "bicubic"
    labels = _part(meta, "classes").get("description", ())
    return Preprocessing(
        channel_order="gray" if gray else "BGR" if swapped else "RGB",
        mean=values[::-1] if swapped else values,
        resize=_resize(normalization, crop),
        crop=crop,
        labels=tuple(texts(labels)) if isinstance(labels, (list, str)) else (),
        interpolation="bicubic" if bicubic else "bilinear",
    )


def _channel_means(mean: np.ndarray) -> tuple[float, ...]:
    """Of a mean image (H, W, C) or a vector, the mean of each channel."""
    if not mean.size:
        return (0.0,)
    per_channel = mean.reshape(-1, mean.shape[-1] if mean.ndim == CHANNEL_DIM else mean.size)
    if per_channel.shape[1] not in (1, COLOURS):
        return (float(mean.mean(dtype=np.float64)),)
    found = tuple(float(value) for value in per_channel.mean(axis=0, dtype=np.float64))
    return found if np.isfinite(found).all() else (0.0,)


def _resize(normalization: dict[str, Any], crop: tuple[int, int]) -> tuple[int, int] | int:
    border = np.asarray(normalization.get("border", ())).reshape(-1)
    part = np.asarray(normalization.get("cropSize", ())).reshape(-1)
    size = crop
    if border.size == 2 and border.dtype.kind in "fiu":
        size = crop[0] + int(border[0]), crop[1] + int(border[1])
    elif part.size and part.dtype.kind in "fiu" and 0 < float(part[0]) <= 1:
        size = round(crop[0] / float(part[0])), round(crop[1] / float(part[0]))
    keep = np.asarray(normalization.get("keepAspect", True)).reshape(-1)
    return min(size) if keep.size and bool(keep[0]) else size
