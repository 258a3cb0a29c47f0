"""Resizing of images before they are cropped, as fields of forks ask for it.

Sources: the data transformers of NVIDIA's Caffe and of HD-CNN's.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import scale_channels
from caffecompat.data.counter_rng import draw, pick
from caffecompat.data.transforms.rescale import Resizing, check_length
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

# Fields of TransformationParameter with which NVIDIA's Caffe resizes images.
STRETCHES = tuple(
    f"{name}_{end}"
    for name in ("vertical_stretch", "horizontal_stretch", "rand_resize_ratio")
    for end in ("lower", "upper")
)
_HD_CNN = ("resize_size", "resize_short_side_min", "resize_short_side_max")


def resizing_of_fork(message: Message) -> Resizing | None:
    """What the fields of a TransformationParameter say; None if it has none of them.

    Raises:
        DataError: they contradict each other.
    """
    stretched = [name for name in STRETCHES if message.HasField(name)]
    sized = [name for name in _HD_CNN if getattr(message, name)]
    if stretched and sized:
        raise DataError(
            f"transform_param: {stretched[0]} and {sized[0]} are fields of different Caffe "
            "versions; remove one of them"
        )
    if stretched:
        return RandomStretch(message)
    return FixedSize(message) if sized else None


class RandomStretch(Resizing):
    """A random scale, a random ratio of the sides, and a random factor for each side.

    The smaller side becomes a number from ``img_rand_resize_lower`` to ``img_rand_resize_upper``
    if both are given. With ``rand_resize_ratio_lower`` of 1 or more the longer side is that many
    times the shorter one, up to ``rand_resize_ratio_upper``; of a square either may be the longer.
    Then the height is multiplied by a factor from ``vertical_stretch_lower`` to ``_upper``, the
    width by one from ``horizontal_stretch_lower`` to ``_upper``; both are rounded, raised to
    ``crop_size``, and lowered to the sides of the image unless ``allow_upscale``. All is drawn in
    both phases. ``interpolation_algo_down`` serves where no side grows, ``interpolation_algo_up``
    elsewhere.

    Args:
        p: a TransformationParameter.

    Raises:
        DataError: bounds in the wrong order.
    """

    def __init__(self, p: Message) -> None:
        self._sides = (int(p.img_rand_resize_lower), int(p.img_rand_resize_upper))
        if min(self._sides) == 0:
            self._sides = (0, 0)
        if self._sides[0] > self._sides[1]:
            raise DataError(
                f"transform_param: img_rand_resize_lower {self._sides[0]} is above "
                f"img_rand_resize_upper {self._sides[1]}; exchange them"
            )
        bounds = [float(getattr(p, name)) for name in STRETCHES]
        vertical, horizontal, self._ratio = bounds[:2], bounds[2:4], bounds[4:]
        none = [1.0, 1.0]
        self._vertical = vertical if min(vertical) > 0 else none
        self._horizontal = horizontal if min(horizontal) > 0 else none
        self._crop, self._upscales = int(p.crop_size), bool(p.allow_upscale)
        names = p.InterpolationAlgo
        self._down, self._up = (
            names.Name(number).removeprefix("INTER_")
            for number in (p.interpolation_algo_down, p.interpolation_algo_up)
        )

    def draw(self, seed: int, ordinals: NDArray[np.int64]) -> list[tuple[float, ...]]:
        """For each sample five numbers.

        The smaller side (0 for that of the image), the ratio (0 for none), whether a square's
        height is the longer side, and the factors of height and width.
        """
        lower, upper = self._sides
        side = lower + pick(draw(seed, ordinals, "smallest side"), upper - lower + 1)
        has_ratio = self._ratio[0] >= 1 and self._ratio[1] > 1
        ratio = _uniform(seed, ordinals, "ratio of the sides", self._ratio) * has_ratio
        upright = pick(draw(seed, ordinals, "longer side"), 2)
        vertical = _uniform(seed, ordinals, "vertical stretch", self._vertical)
        horizontal = _uniform(seed, ordinals, "horizontal stretch", self._horizontal)
        columns = [one.tolist() for one in (side, ratio, upright, vertical, horizontal)]
        return list(zip(*columns, strict=True))

    def size(self, height: int, width: int, drawn: tuple[float, ...]) -> tuple[int, int]:
        side, ratio, upright, *factors = drawn
        shorter = np.float32(min(height, width))
        scale = np.float32(side or shorter) / shorter
        sides = [scale * np.float32(height), scale * np.float32(width)]
        if ratio:
            longer = int(sides[1] > sides[0]) if sides[0] != sides[1] else int(not upright)
            sides[longer] = sides[1 - longer] * np.float32(ratio)
        found = []
        for extent, factor, own in zip(sides, factors, (height, width), strict=True):
            wanted = max(self._crop, int(extent * np.float32(factor) + 0.5))
            found.append(wanted if self._upscales else min(wanted, own))
        return check_length((height, width), (found[0], found[1]), "with random factors")

    def scale(self, pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        grows = height > pixels.shape[1] or width > pixels.shape[2]
        return scale_channels(pixels, height, width, self._up if grows else self._down)


class FixedSize(Resizing):
    """``resize_size`` for both sides, or a random shorter side.

    With ``resize_size`` images become squares of that side. With ``resize_short_side_min`` and
    ``resize_short_side_max`` the shorter side becomes a number from that range, in both phases,
    and the other side follows, rounded up. Interpolation is bilinear.

    Args:
        p: a TransformationParameter.

    Raises:
        DataError: both kinds are given, or a bound is missing.
    """

    def __init__(self, p: Message) -> None:
        self._square = int(p.resize_size)
        self._bounds = (int(p.resize_short_side_min), int(p.resize_short_side_max))
        if self._square and any(self._bounds):
            raise DataError(
                "transform_param: resize_size and resize_short_side_min or _max are both given; "
                "remove one of them"
            )
        if not self._square and not 0 < self._bounds[0] <= self._bounds[1]:
            raise DataError(
                f"transform_param: resize_short_side_min is {self._bounds[0]} and "
                f"resize_short_side_max is {self._bounds[1]}; give both, the larger one last"
            )

    def draw(self, seed: int, ordinals: NDArray[np.int64]) -> list[tuple[float, ...]]:
        lower, upper = (self._square,) * 2 if self._square else self._bounds
        sides = lower + pick(draw(seed, ordinals, "smallest side"), upper - lower + 1)
        return [(side,) for side in sides.tolist()]

    def size(self, height: int, width: int, drawn: tuple[float, ...]) -> tuple[int, int]:
        side = int(drawn[0])
        if self._square:
            return side, side
        longer = np.float32(max(height, width)) / np.float32(min(height, width))
        other = ceil(longer * np.float32(side))
        scaled = (other, side) if height > width else (side, other)
        return check_length((height, width), scaled, f"with its smallest side of {side}")

    def scale(self, pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        return scale_channels(pixels, height, width, "LINEAR")


def _uniform(
    seed: int, ordinals: NDArray[np.int64], purpose: str, bounds: list[float]
) -> NDArray[np.float64]:
    shares = (draw(seed, ordinals, purpose) >> np.uint64(11)).astype(np.float64) / (1 << 53)
    low, high = sorted(bounds)
    return low + shares * (high - low)
