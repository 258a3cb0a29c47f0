"""What happens to an image before it is a net's input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an image to a net's input, in Caffe's order: crop, mean, scale.

    Attributes:
        channel_order: ``"BGR"``, ``"RGB"`` or ``"gray"``.
        mean: subtracted from values of 0 to 255; one per channel, or one for all.
        scale: multiplied with what is left.
        resize: height and width that the image is resized to, or one number for its shorter side;
            None for no resizing.
        crop: height and width of the central crop; None for the whole image.
        labels: the names of the classes, in the order of the outputs.
    """

    channel_order: str = "BGR"
    mean: tuple[float, ...] = (0.0,)
    scale: float = 1.0
    resize: tuple[int, int] | int | None = None
    crop: tuple[int, int] | None = None
    labels: tuple[str, ...] = ()
