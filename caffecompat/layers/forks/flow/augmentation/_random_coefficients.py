"""Random coefficients of FlowNet's augmentation, a pure function of seed, layer and sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caffecompat.layers._rounding import round_away
from caffecompat.layers.forks.flow.augmentation import _coefficients as coefficients

if TYPE_CHECKING:
    from torch import Tensor

    from caffecompat.layers._counter_rng import Noise

KINDS = ("uniform", "gaussian", "bernoulli", "uniform_bernoulli", "gaussian_bernoulli")

# The field of AugmentationParameter behind each coefficient of colours.
_COLOUR = {
    "gamma": "gamma",
    "brightness": "brightness",
    "contrast": "contrast",
    "color1": "color",
    "color2": "color",
    "color3": "color",
}
_EIGEN = {
    "pow_nomean0": "ladd_pow",
    "pow_nomean1": "col_pow",
    "pow_nomean2": "col_pow",
    "add_nomean0": "ladd_add",
    "add_nomean1": "col_add",
    "add_nomean2": "col_add",
    "mult_nomean0": "ladd_mult",
    "mult_nomean1": "col_mult",
    "mult_nomean2": "col_mult",
    "pow_withmean1": "sat_pow",
    "add_withmean1": "sat_add",
    "mult_withmean1": "sat_mult",
    "lmult_pow": "lmult_pow",
    "lmult_mult": "lmult_mult",
    "lmult_add": "lmult_add",
    "col_angle": "col_rotate",
}
_SPATIAL = ("mirror", "translate", "rotate", "zoom", "squeeze", "translate_x", "translate_y")
# Coefficients that are drawn together as soon as one of them has settings.
_TOGETHER = (
    ("fog_amount", "fog_size"),
    ("motion_blur_angle", "motion_blur_size"),
    ("shadow_angle", "shadow_distance", "shadow_strength"),
)

# The original tries 50 times to find a crop inside the image, but gives up after the last time even
# if that one succeeded.
TRIES = 49
# Random numbers for one value.
_EACH = 3
_SPATIAL_VALUES = 8
_OTHER_VALUES = 40
# Random numbers for each sample.
COUNT = _EACH * (TRIES * _SPATIAL_VALUES + _OTHER_VALUES)


@dataclass(frozen=True)
class Distribution:
    """The settings of RandomGeneratorParameter."""

    kind: str = KINDS[0]
    exp: bool = False
    mean: float = 0.0
    spread: float = 0.0
    prob: float = 1.0
    scheduled: bool = True
    discretize: bool = False
    multiplier: float = 1.0

    @classmethod
    def of(cls, p: Any) -> Distribution:
        """From the message ``p``."""
        return cls(
            p.rand_type,
            p.exp,
            p.mean,
            p.spread,
            p.prob,
            p.apply_schedule,
            p.discretize,
            p.multiplier,
        )


class Generator:
    """Draws coefficients as the settings ``p`` (AugmentationParameter) say.

    Attributes:
        spatial, colour, eigen, effects: whether there are settings for coefficients of the kind.
    """

    def __init__(self, p: Any, active: bool) -> None:
        given = self.given = {
            field.name: Distribution.of(value)
            for field, value in p.ListFields()
            if field.message_type is not None
        }
        self.spatial = active and any(name in given for name in _SPATIAL)
        self.colour = active and any(name in given for name in _COLOUR.values())
        self.eigen = active and any(name in given for name in _EIGEN.values())
        self.effects = active and any(name in given for name in coefficients.EFFECTS)

    @property
    def colours(self) -> bool:
        """Whether there are settings for anything but the position."""
        return self.colour or self.eigen or self.effects

    def unknown_kind(self) -> str:
        """A ``rand_type`` that is none of :data:`KINDS`; empty if there is none."""
        for name, distribution in self.given.items():
            if distribution.kind not in KINDS:
                return f"{name}.rand_type is {distribution.kind!r}"
        return ""

    def draw_spatial(
        self,
        numbers: Tensor,
        discount: Tensor,
        before: Tensor,
        crop: tuple[int, int],
        image: tuple[int, int],
    ) -> Tensor:
        """Rows (N, 42): ``before`` plus the first draw whose crop lies inside the image.

        Without such a draw they are ``before``.
        """
        import torch

        samples = numbers.shape[0]
        per_try = _EACH * _SPATIAL_VALUES
        drawn = numbers[:, : TRIES * per_try].reshape(samples * TRIES, _SPATIAL_VALUES, _EACH)
        values = self._spatial_values(drawn, discount)
        rows = coefficients.encode(values, drawn).view(samples, TRIES, -1) + before.unsqueeze(1)
        inside = _inside(coefficients.decode(rows.flatten(0, 1)), crop, image)
        inside = inside.view(samples, TRIES)
        first = inside.to(torch.uint8).argmax(1).view(-1, 1, 1).expand(-1, 1, rows.shape[2])
        return rows.gather(1, first).squeeze(1).where(inside.any(1, keepdim=True), before)

    def _spatial_values(self, numbers: Tensor, discount: Tensor) -> dict[str, Tensor]:
        given, values = self.given, {}
        if "mirror" in given:
            # The original converts the number to a boolean, and has no schedule here.
            drawn = _draw(given["mirror"], numbers[:, 0], discount * 0, 0)
            values["mirror"] = (drawn != 0).to(numbers.dtype)
        if "translate" in given:
            values["dx"] = _draw(given["translate"], numbers[:, 1], discount, 0)
            values["dy"] = _draw(given["translate"], numbers[:, 2], discount, 0)
        if "translate_x" in given:
            values["dx"] = _draw(given["translate_x"], numbers[:, 3], discount, 0)
        if "translate_y" in given:
            values["dy"] = _draw(given["translate_y"], numbers[:, 4], discount, 0)
        if "rotate" in given:
            values["angle"] = _draw(given["rotate"], numbers[:, 5], discount, 0)
        zoom = numbers.new_ones(len(numbers))
        if "zoom" in given:
            zoom = _draw(given["zoom"], numbers[:, 6], discount, 1)
        squeeze = numbers.new_ones(len(numbers))
        if "squeeze" in given:
            squeeze = _draw(given["squeeze"], numbers[:, 7], discount, 1)
        return {**values, "zoom_x": zoom * squeeze, "zoom_y": zoom / squeeze}

    def draw_others(self, numbers: Tensor, discount: Tensor) -> dict[str, Tensor]:
        """The values of the coefficients that do not move pixels; absent ones are neutral."""
        drawn = numbers[:, -_EACH * _OTHER_VALUES :].reshape(-1, _OTHER_VALUES, _EACH)
        values: dict[str, Tensor] = {}
        for wanted, fields in ((self.colour, _COLOUR), (self.eigen, _EIGEN)):
            for name, field in fields.items() if wanted else ():
                if field in self.given:
                    place = coefficients.NAMES.index(name) - len(coefficients.SPATIAL)
                    values[name] = _draw(self.given[field], drawn[:, place], discount, None)
        for what in ("pow", "add", "mult"):
            if f"{what}_withmean1" in values:
                values[f"{what}_withmean2"] = values[f"{what}_withmean1"]
        if self.effects:
            values.update(self._effects(drawn, discount))
        return values

    def _effects(self, drawn: Tensor, discount: Tensor) -> dict[str, Tensor]:
        given, values = self.given, {}
        for names in (*_TOGETHER, ("noise",)):
            if any(name in given for name in names):
                default = None if names == ("noise",) else 0
                for name in names:
                    place = coefficients.NAMES.index(name) - len(coefficients.SPATIAL)
                    setting = given.get(name, Distribution())
                    values[name] = _draw(setting, drawn[:, place], discount, default)
        return values


def uniforms(noise: Noise, like: Tensor) -> Tensor:
    """Numbers from 0 to 1 in the shape of ``like`` (N, ...)."""
    return noise.bits(like).to(like.dtype) / 2**31


def normal(first: Tensor, second: Tensor) -> Tensor:
    """Normally distributed numbers from two uniform ones each."""
    # The largest numbers round to 1 in 32 bits.
    return (-2 * (1 - first).clamp(min=2**-31).log()).sqrt() * (2 * math.pi * second).cos()


def _draw(p: Distribution, numbers: Tensor, discount: Tensor, otherwise: float | None) -> Tensor:
    """One value for each row of ``numbers`` (n, 3), as ``p`` says.

    ``otherwise`` is the value where the coin of ``prob`` says no; None: it is 0, or 1 with ``exp``.
    """
    import torch

    coin, first, second = numbers.unbind(1)
    heads = coin < p.prob
    if p.kind == "bernoulli":
        value = heads.to(numbers.dtype)
    else:
        spread = p.spread * discount if p.scheduled else torch.full_like(discount, p.spread)
        spread = spread.clamp(min=0).to(numbers.dtype)
        step = normal(first, second) if p.kind.startswith("gaussian") else 2 * first - 1
        value = p.mean + spread * step
        if p.kind.endswith("bernoulli"):
            value = value.where(heads, 0)
        if p.exp:
            value = value.exp()
    if p.discretize:
        value = round_away(value)
    value = value * p.multiplier
    if otherwise is not None and p.kind.endswith("_bernoulli"):
        value = value.where(heads, otherwise)
    return value


def _inside(values: dict[str, Tensor], crop: tuple[int, int], image: tuple[int, int]) -> Tensor:
    """Whether the corners of the crop lie between the first and the last pixels of the image."""
    import torch

    like = values["angle"]
    x = torch.tensor([[0.0, crop[1] - 1]], device=like.device, dtype=like.dtype)
    y = torch.tensor([[0.0], [crop[0] - 1]], device=like.device, dtype=like.dtype)
    x, y = coefficients.apply(coefficients.matrices(values, crop, image), x, y)
    x, y = x.floor(), y.floor()
    fits = (x >= 0) & (x <= image[1] - 2) & (y >= 0) & (y <= image[0] - 2)
    return fits.flatten(1).all(1)
