"""The changes of colour of FlowNet's augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers.forks.flow.augmentation._coefficients import EIGEN, neutral

if TYPE_CHECKING:
    from torch import Tensor

Values = dict[str, "Tensor"]

# Below this a length counts as zero.
_SMALL = 1e-2


def changes_contrast(values: Values) -> Tensor:
    """Whether any sample has a gamma, brightness, contrast or colour other than the neutral one."""
    return (
        (values["gamma"] != 1)
        | (values["brightness"] != 0)
        | (values["contrast"] != 1)
        | (values["color1"] != 1)
        | (values["color2"] != 1)
        | (values["color3"] != 1)
    ).any()


def contrast(x: Tensor, values: Values, limit: float) -> Tensor:
    """Colour factors with the brightness kept, then gamma, brightness and contrast.

    The result of (N, 3, H, W) in [0, 1] is cut to [0, limit].
    """
    import torch

    factors = torch.stack([values["color1"], values["color2"], values["color3"]], 1)
    coloured = x * factors[:, :, None, None]
    kept = x.sum(1, keepdim=True) / (coloured.sum(1, keepdim=True) + 0.01)
    x = (coloured * kept).clamp(0, 1)
    gamma, brightness, strength = (
        values[name].view(-1, 1, 1, 1) for name in ("gamma", "brightness", "contrast")
    )
    x = x.pow(gamma) + brightness
    return (0.5 + (x - 0.5) * strength).clamp(0, limit)


@dataclass
class EigenSpace:
    """Colours of a batch along given directions.

    Attributes:
        directions: (3, 3), one in each row.
        mean: (3) mean colour.
        mean_along: (3) its components, divided by ``largest`` where that is not small.
        largest: (3) largest absolute component.
    """

    directions: Tensor
    mean: Tensor
    mean_along: Tensor
    largest: Tensor

    @classmethod
    def of(cls, x: Tensor, directions: Sequence[float]) -> EigenSpace:
        """The statistics of images (N, 3, H, W); nine numbers of ``directions``, row by row."""
        import torch

        rows = torch.tensor(directions, dtype=x.dtype, device=x.device).view(3, 3)
        largest = torch.einsum("dc,nchw->dnhw", rows, x).abs().flatten(1).amax(1)
        mean = x.mean((0, 2, 3))
        along = rows @ mean
        along = along / largest.where(largest > _SMALL, 1)
        return cls(rows, mean, along, largest)


def changes_eigen(values: Values) -> Tensor:
    """Whether any sample has a coefficient of :func:`eigen` that is not neutral."""
    import torch

    return torch.stack([values[name] != neutral(name) for name in EIGEN]).any()


def eigen(x: Tensor, values: Values, space: EigenSpace, limit: float) -> Tensor:
    """Changes along the directions of colour, of saturation, of hue and of length.

    Images (N, 3, H, W); the result is cut to [0, limit]. Source: ChromaticEigenAugmentation of
    FlowNet's DataAugmentation layer, whose steps these are.
    """
    import torch

    along = torch.einsum("dc,nchw->ndhw", space.directions, x - space.mean.view(1, 3, 1, 1))
    relevant = (space.largest > _SMALL).view(1, 3, 1, 1)
    divided = along / space.largest.view(1, 3, 1, 1).where(relevant, 1)
    changed = _power(divided, _triple(values, "pow_nomean"))
    changed = (changed + _triple(values, "add_nomean")) * _triple(values, "mult_nomean")
    along = changed.where(relevant, along) + space.mean_along.view(1, 3, 1, 1)

    light, first, second = along.unbind(1)
    bright = _power(light, _one(values, "pow_withmean0"))
    bright = (bright + _one(values, "add_withmean0")) * _one(values, "mult_withmean0")
    light = bright.where(relevant[:, 0], light)

    saturation = (first * first + second * second).sqrt()
    grey = saturation <= _SMALL
    wanted = saturation.where(~grey, 1).pow(_one(values, "pow_withmean1"))
    wanted = (wanted + _one(values, "add_withmean1")).clamp(min=0)
    wanted = wanted * _one(values, "mult_withmean1")
    cos, sin = _one(values, "col_angle").cos(), _one(values, "col_angle").sin()
    first, second = cos * first - sin * second, sin * first + cos * second

    along = torch.stack([light, first, second], 1)
    along = along * space.largest.view(1, 3, 1, 1).where(relevant, 1)
    longest = (space.largest * space.largest).sum().sqrt()
    length = (along * along).sum(1).sqrt() / longest.where(longest > _SMALL, 1)
    ratio = (wanted / saturation.where(~grey, 1)).where(~grey, 1)
    along = torch.cat([along[:, :1], along[:, 1:] * ratio.unsqueeze(1)], 1)

    now = (along * along).sum(1).sqrt()
    length = length.pow(_one(values, "lmult_pow"))
    length = (length + _one(values, "lmult_add")).clamp(min=0)
    length = length * _one(values, "lmult_mult") * longest
    scaled = along / now.where(now > _SMALL, 1).unsqueeze(1) * length.unsqueeze(1)
    scaled = torch.minimum(scaled, space.largest.view(1, 3, 1, 1))
    along = scaled.where(((now > _SMALL) & (longest > _SMALL)).unsqueeze(1), along)
    return torch.einsum("dc,ndhw->nchw", space.directions, along).clamp(0, limit)


def changes_effects(values: Values) -> Tensor:
    """Whether any sample has a shadow, noise, or one of the effects that are not computed."""
    return (
        ((values["fog_amount"] != 0) & (values["fog_size"] != 0))
        | (values["motion_blur_size"] > 0)
        | (values["shadow_strength"] > 0)
        | (values["noise"] > 0)
    ).any()


def effects(x: Tensor, values: Values, noise: Tensor | None, limit: float) -> Tensor:
    """A shadow on one side of a line, the result cut to [0, limit], then noise.

    ``noise``: standard normal numbers in the shape of ``x``. Fog and motion blur have coefficients
    but no effect, as in the original.
    """
    import torch

    height, width = x.shape[2:]
    across = torch.arange(width, device=x.device, dtype=x.dtype) - width // 2
    down = torch.arange(height, device=x.device, dtype=x.dtype).unsqueeze(1) - height // 2
    angle = _one(values, "shadow_angle")
    side = across * angle.cos() + down * angle.sin() - _one(values, "shadow_distance")
    dark = (x - _one(values, "shadow_strength").unsqueeze(1)).where((side > 0).unsqueeze(1), x)
    x = dark.clamp(0, limit)
    if noise is None:
        return x
    return x + noise * values["noise"].clamp(min=0).view(-1, 1, 1, 1)


def _one(values: Values, name: str) -> Tensor:
    return values[name].view(-1, 1, 1)


def _triple(values: Values, name: str) -> Tensor:
    import torch

    return torch.stack([values[f"{name}{c}"] for c in range(3)], 1)[:, :, None, None]


def _power(x: Tensor, exponent: Tensor) -> Tensor:
    return x.abs().pow(exponent).copysign(x)
