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
# Of a side of the images, in pixels.
_LARGEST = 1 << 16


def read_meta(variables: dict[str, Any]) -> dict[str, Any]:
    """``meta``; in files from before beta17 its parts are variables of their own."""
    return _part(variables, "meta") or variables


def _part(meta: dict[str, Any], name: str) -> dict[str, Any]:
    found = meta.get(name)
    return found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}


def _array(part: dict[str, Any], key: str) -> np.ndarray:
    """A field as an array; an empty one if it is missing, or a cell of arrays."""
    try:
        return np.asarray(part.get(key, ()))
    except ValueError:  # arrays of different shapes
        return np.zeros(0)


def _numbers(part: dict[str, Any], key: str) -> list[float]:
    """The numbers of a field in a row; none if it is missing, or one is not a finite number."""
    found = _array(part, key)
    if found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        return []
    return [float(number) for number in found.reshape(-1)]


def input_shape(meta: dict[str, Any], layers: list[MatLayer], path: Path) -> Shape:
    for place, key in (("inputs", "size"), ("normalization", "imageSize")):
        size = _numbers(_part(meta, place), key)
        if len(size) >= 2:
            height, width, *more = (int(n) for n in size)
            if min(height, width) < 1 or max(height, width) > _LARGEST:
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
    mean = _array(normalization, "averageImage")
    size = [int(number) for number in _numbers(normalization, "imageSize")]
    if mean.dtype.kind not in "fiu" or len(size) < 2:
        return None
    gray = len(size) > 2 and size[2] == 1
    values = _channel_means(mean)
    crop = size[0], size[1]
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
    border, part = _numbers(normalization, "border"), _numbers(normalization, "cropSize")
    size = crop
    if len(border) == 2:
        size = crop[0] + int(border[0]), crop[1] + int(border[1])
    elif part and 1 / _LARGEST < part[0] <= 1:
        size = round(crop[0] / part[0]), round(crop[1] / part[0])
    keep = _array(normalization, "keepAspect").reshape(-1)
    return size if keep.size and not keep[0] else min(size)
