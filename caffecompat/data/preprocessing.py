"""What happens to an image before it is a net's input."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from caffecompat.errors import FormatError

CHANNEL_ORDERS = ("BGR", "RGB", "gray")
# A side of an image; OpenCV's limit for images it decodes is of this size.
MAX_SIDE = 1 << 20
MAX_LABELS = 1 << 20


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an image to a net's input, in Caffe's order: resize, crop, mean, scale.

    Attributes:
        channel_order: ``"BGR"``, ``"RGB"`` or ``"gray"``.
        mean: subtracted from values of 0 to 255; one per channel in ``channel_order``, or one for
            all.
        scale: multiplied with what is left.
        resize: height and width that the image is resized to, or one number for its shorter side;
            None for no resizing.
        crop: height and width of the central crop; None for the whole image.
        labels: the names of the classes, in the order of the outputs.
        interpolation: how an image is resized: ``"bilinear"``, ``"bicubic"`` or ``"area"``.
    """

    channel_order: str = "BGR"
    mean: tuple[float, ...] = (0.0,)
    scale: float = 1.0
    resize: tuple[int, int] | int | None = None
    crop: tuple[int, int] | None = None
    labels: tuple[str, ...] = ()
    interpolation: str = "bilinear"

    def sentence(self) -> str:
        """The steps in words: "shorter side resized to 256, central crop 224 x 224, ..."."""
        steps = []
        if isinstance(self.resize, int):
            steps.append(f"shorter side resized to {self.resize} ({self.interpolation})")
        elif self.resize is not None:
            steps.append(f"resized to {_size_text(self.resize)} ({self.interpolation})")
        if self.crop is not None:
            steps.append(f"central crop {_size_text(self.crop)}")
        order = "gray" if self.channel_order == "gray" else ", ".join(self.channel_order)
        steps.append(f"{order} from 0 to 255")
        if any(self.mean):
            steps.append(f"minus {', '.join(f'{value:g}' for value in self.mean)}")
        if self.scale != 1:
            steps.append(f"times {self.scale:g}")
        if self.labels:
            steps.append(f"{len(self.labels)} labels")
        return ", ".join(steps)

    def to_json(self) -> str:
        """This as one JSON object; its keys are the attributes' names."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, place: str = "preprocessing") -> Preprocessing:
        """What :meth:`to_json` wrote. Keys that are missing have their defaults.

        Args:
            text: the JSON.
            place: where it was found, for messages.

        Raises:
            FormatError: it is no JSON object of this kind; the message names the key.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{place}: the preprocessing is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise FormatError(
                f"{place}: the preprocessing is JSON of type {type(found).__name__}, expected an "
                "object"
            )
        unknown = sorted(set(found) - set(_READERS))
        if unknown:
            raise FormatError(
                f"{place}: the preprocessing has the unknown key {unknown[0]!r}; "
                f"known: {', '.join(_READERS)}"
            )
        values = {}
        for key, value in found.items():
            read, expected = _READERS[key]
            try:
                values[key] = read(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise FormatError(
                    f"{place}: {key!r} of the preprocessing is {_shown(value)}, expected {expected}"
                ) from error
        return cls(**values)


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _channel_order(value: Any) -> str:
    if value not in CHANNEL_ORDERS:
        raise ValueError(value)
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _mean(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(value)
    return tuple(_number(each) for each in value)


def _side(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE:
        raise ValueError(value)
    return value


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    height, width = value
    return _side(height), _side(width)


def _resize(value: Any) -> tuple[int, int] | int | None:
    return _size(value) if value is None or isinstance(value, list) else _side(value)


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_LABELS:
        raise ValueError(value)
    if not all(isinstance(each, str) for each in value):
        raise TypeError(value)
    return tuple(value)


def _interpolation(value: Any) -> str:
    if value not in ("bilinear", "bicubic", "area"):
        raise ValueError(value)
    return str(value)


# How each key is read, and what it must be.
_READERS: dict[str, tuple[Any, str]] = {
    "channel_order": (_channel_order, "BGR, RGB or gray"),
    "mean": (_mean, "a list of numbers"),
    "scale": (_number, "a number"),
    "resize": (_resize, "null, one side, or height and width"),
    "crop": (_size, "null, or height and width"),
    "labels": (_labels, "a list of names"),
    "interpolation": (_interpolation, "bilinear, bicubic or area"),
}
