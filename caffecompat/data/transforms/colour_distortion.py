"""Random changes of brightness, contrast, saturation and hue: SSD's ``distort_param``."""

from __future__ import annotations

from caffecompat.data.codec.images import Pixels
from caffecompat.data.codec.pixel_operations import map_levels, scale_saturation, shift_hue
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

FIELDS = (
    *("brightness_prob", "brightness_delta", "contrast_prob", "contrast_lower", "contrast_upper"),
    *("hue_prob", "hue_delta", "saturation_prob", "saturation_lower", "saturation_upper"),
    "random_order_prob",
)
# A factor this near to 1 changes nothing.
_NO_CONTRAST = 1e-3


class ColourDistortion:
    """Each change happens with its own probability.

    Brightness comes first and a new order of the channels last. Contrast comes second in one half
    of the samples, and after saturation and hue in the other. Source: SSD's im_transforms.cpp.

    Args:
        p: a DistortionParameter.

    Raises:
        DataError: a range is in the wrong order or negative.
    """

    def __init__(self, p: Message) -> None:
        self._p = p
        for name in ("brightness_delta", "hue_delta", "contrast_lower", "saturation_lower"):
            if getattr(p, name) < 0:
                raise DataError(
                    f"distort_param: {name} is {getattr(p, name):g}, expected 0 or more"
                )
        for name in ("contrast", "saturation"):
            low, high = getattr(p, f"{name}_lower"), getattr(p, f"{name}_upper")
            if getattr(p, f"{name}_prob") > 0 and low > high:
                raise DataError(
                    f"distort_param: {name}_lower is {low:g} and {name}_upper is {high:g}; the "
                    "upper one must be at least as large"
                )

    def apply(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        """A changed image; ``pixels`` are height x width x 3."""
        if pixels.shape[2] != 3:
            raise DataError(
                f"it has {pixels.shape[2]} channels, but distort_param needs 3; set force_color, "
                "or remove distort_param"
            )
        early = choices.uniform("distort order") > 0.5
        pixels = self._brightness(pixels, choices)
        if early:
            pixels = self._contrast(pixels, choices)
        pixels = self._hue(self._saturation(pixels, choices), choices)
        if not early:
            pixels = self._contrast(pixels, choices)
        if choices.happens("distort channels", self._p.random_order_prob):
            return pixels[..., choices.order("channel order", 3)]
        return pixels

    def _brightness(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        delta = self._p.brightness_delta
        if not choices.happens("distort brightness", self._p.brightness_prob) or not delta:
            return pixels
        return map_levels(pixels, shift=choices.uniform("brightness", -delta, delta))

    def _contrast(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        if not choices.happens("distort contrast", self._p.contrast_prob):
            return pixels
        factor = choices.uniform("contrast", self._p.contrast_lower, self._p.contrast_upper)
        return pixels if abs(factor - 1) <= _NO_CONTRAST else map_levels(pixels, factor)

    def _saturation(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        if not choices.happens("distort saturation", self._p.saturation_prob):
            return pixels
        low, high = self._p.saturation_lower, self._p.saturation_upper
        return scale_saturation(pixels, choices.uniform("saturation", low, high))

    def _hue(self, pixels: Pixels, choices: SampleChoices) -> Pixels:
        delta = self._p.hue_delta
        if not choices.happens("distort hue", self._p.hue_prob) or not delta:
            return pixels
        return shift_hue(pixels, choices.uniform("hue", -delta, delta))
