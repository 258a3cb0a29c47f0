"""The coefficients of FlowNet's augmentation, and the transformations that they stand for.

A blob of coefficients is (N, 42, 1, 1): one row of numbers per sample, in the order of ``NAMES``.
Coefficients whose neutral value is 1 are stored as logarithms, so that a row of zeros is neutral
and the sum of two rows does both of them. Source: FlowNet's AugmentationCoeff message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SPATIAL = ("mirror", "dx", "dy", "angle", "zoom_x", "zoom_y")
COLOUR = ("gamma", "brightness", "contrast", "color1", "color2", "color3")
EIGEN = (
    *(f"{what}{c}" for what in ("pow_nomean", "add_nomean", "mult_nomean") for c in range(3)),
    *(f"{what}{c}" for what in ("pow_withmean", "add_withmean", "mult_withmean") for c in range(3)),
    *("lmult_pow", "lmult_add", "lmult_mult", "col_angle"),
)
EFFECTS = (
    *("fog_amount", "fog_size", "motion_blur_angle", "motion_blur_size"),
    *("shadow_angle", "shadow_distance", "shadow_strength", "noise"),
)
NAMES = (*SPATIAL, *COLOUR, *EIGEN, *EFFECTS)

# Coefficients this close to their neutral value count as neutral.
_NEUTRAL = 1e-3


def neutral(name: str) -> int:
    """0 or 1: the value of a coefficient that changes nothing."""
    if name.startswith(("zoom", "gamma", "contrast", "color")):
        return 1
    return int(name.startswith(("pow_", "mult_")) or name in ("lmult_pow", "lmult_mult"))


def encode(values: dict[str, Tensor], like: Tensor) -> Tensor:
    """Rows (N, 42) of coefficients; those not in ``values``, (N) each, are neutral."""
    import torch

    columns = [like.new_zeros(like.shape[0])] * len(NAMES)
    for name, value in values.items():
        columns[NAMES.index(name)] = value.log() if neutral(name) else value
    return torch.stack(columns, 1)


def decode(rows: Tensor) -> dict[str, Tensor]:
    """The coefficients, (N) each, of rows (N, 42)."""
    columns = rows.unbind(1)
    return {
        name: column.exp() if neutral(name) else column
        for name, column in zip(NAMES, columns, strict=True)
    }


def without_traces(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The coefficients with those that differ from neutral by less than 1e-3 made neutral."""
    return {
        name: value.where((value - neutral(name)).abs() >= _NEUTRAL, neutral(name))
        for name, value in values.items()
    }


def matrices(
    values: dict[str, Tensor], crop: tuple[int, int], image: tuple[int, int]
) -> tuple[Tensor, ...]:
    """The six numbers, (N) each, of the affine map from pixels of the crop to those of the image.

    x = t0 x' + t2 y' + t4 and y = t1 x' + t3 y' + t5. In this order: the origin moves to the middle
    of the crop, x is mirrored, the position is turned by ``angle``, moved by ``dx`` crop widths and
    ``dy`` crop heights, divided by ``zoom_x`` and ``zoom_y``, and moved to the middle of the image.

    Args:
        crop, image: height and width.
    """
    import torch

    height, width = crop
    sign = torch.where(values["mirror"] != 0, -1.0, 1.0).to(values["angle"].dtype)
    x0, y0 = -0.5 * width * sign, -0.5 * height
    cos, sin = values["angle"].cos(), values["angle"].sin()
    zoom_x, zoom_y = values["zoom_x"], values["zoom_y"]
    t4 = (cos * x0 - sin * y0 + values["dx"] * width) / zoom_x + 0.5 * image[1]
    t5 = (sin * x0 + cos * y0 + values["dy"] * height) / zoom_y + 0.5 * image[0]
    return sign * cos / zoom_x, sign * sin / zoom_y, -sin / zoom_x, cos / zoom_y, t4, t5


def inverse(matrix: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inverse of an affine map, as six numbers again."""
    a, b, c, d, e, f = matrix
    scale = a * d - b * c
    return (
        d / scale,
        -b / scale,
        -c / scale,
        a / scale,
        (c * f - d * e) / scale,
        (b * e - a * f) / scale,
    )


def apply(matrix: tuple[Tensor, ...], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (N, h, w) of the positions ``x`` and ``y``, whose shapes broadcast to that."""
    t0, t1, t2, t3, t4, t5 = (t.view(-1, 1, 1) for t in matrix)
    return x * t0 + y * t2 + t4, x * t1 + y * t3 + t5


def grid(like: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The x (1, w) and y (h, 1) of the pixels of an image of ``size`` (height, width)."""
    import torch

    x = torch.arange(size[1], device=like.device, dtype=like.dtype)
    y = torch.arange(size[0], device=like.device, dtype=like.dtype)
    return x.unsqueeze(0), y.unsqueeze(1)
