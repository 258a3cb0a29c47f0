"""DetectNet's changes of images and boxes: colours, flips, sizes, turns and crops.

Source of the semantics: detectnet_transform_layer.cpp of NVIDIA's Caffe, as it runs on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, cos, floor, radians, sin

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import opencv
from caffecompat.data.rounding import round_away
from caffecompat.proto.schema import Message

Floats = NDArray[np.float32]
Size = tuple[int, int]

# How many random numbers a sample takes.
DRAWS = 12
_LEVELS = 255.0
_LEAST_ANGLE = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Changes:
    """What happens to one image.

    Attributes:
        hue: added to the hue, in degrees.
        saturation: factor of the saturation.
        flip: whether it is flipped left to right.
        size: width and height to resize to.
        angle: clockwise, in degrees.
        offset: column and row of the crop, which may lie outside of the image.
    """

    hue: float
    saturation: float
    flip: bool
    size: Size
    angle: float
    offset: Size


def unchanged(size: Size) -> Changes:
    """The image resized to a width and height."""
    return Changes(0.0, 1.0, False, size, 0.0, (0, 0))


def drawn_changes(p: Message, size: Size, crop: Size, numbers: Sequence[float]) -> Changes:
    """Random changes of an image.

    Args:
        p: a DetectNetAugmentationParameter.
        size, crop: width and height of the image, and of what becomes of it.
        numbers: :data:`DRAWS` numbers from 0 to 1.
    """
    drawn: Iterator[float] = iter(numbers)
    hue_happens, hue = next(drawn) <= p.hue_rotation_prob, next(drawn)
    grey_happens, grey = next(drawn) <= p.desaturation_prob, next(drawn)
    flip = next(drawn) <= p.flip_prob
    scale_happens, scale = next(drawn) <= p.scale_prob, next(drawn)
    turn_happens, turn = next(drawn) <= p.rotation_prob, next(drawn)
    crop_happens, *place = next(drawn) <= p.crop_prob, next(drawn), next(drawn)
    angle = (turn - 0.5) * 2 * p.max_rotate_degree if turn_happens else 0.0
    if scale_happens:
        factor = p.scale_min + (p.scale_max - p.scale_min) * scale
        size = (round_away(size[0] * factor), round_away(size[1] * factor))
    before = _turned_size(size, angle) if abs(angle) > _LEAST_ANGLE else size
    shift = (int(p.shift_x), int(p.shift_y)) if crop_happens else (0, 0)
    shares = place if crop_happens else (0.5, 0.5)
    offset = [
        round_away(share * (extent - wanted + moved) - moved // 2)
        for share, extent, wanted, moved in zip(shares, before, crop, shift, strict=True)
    ]
    return Changes(
        hue=min(max((hue - 0.5) * 2 * p.hue_rotation, -180.0), 180.0) if hue_happens else 0.0,
        saturation=1 - grey * p.desaturation_max if grey_happens else 1.0,
        flip=flip,
        size=size,
        angle=angle,
        offset=(offset[0], offset[1]),
    )


def changed_image(image: Floats, mean: Floats, changes: Changes, crop: Size) -> Floats:
    """The image (H, W, 3) after the mean was subtracted, of the crop's size.

    Args:
        image: levels from 0 to 255, in B, G, R.
        mean: what to subtract, in the same range; its shape fits that of the image.
    """
    cv2 = opencv()
    pixels = np.ascontiguousarray(image, np.float32) / np.float32(_LEVELS)
    if abs(changes.hue) > _LEAST_ANGLE or changes.saturation < 1 - 1 / _LEVELS:
        hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = np.mod(hsv[..., 0] + np.float32(changes.hue), np.float32(360))
        hsv[..., 1] *= np.float32(changes.saturation)
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    pixels = pixels - mean / np.float32(_LEVELS)
    if changes.flip:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    if pixels.shape[1::-1] != changes.size:
        pixels = cv2.resize(pixels, changes.size, interpolation=cv2.INTER_CUBIC)
    if abs(changes.angle) > _LEAST_ANGLE:
        size = _turned_size(changes.size, changes.angle)
        pixels = cv2.warpAffine(
            pixels,
            _matrix(changes.size, changes.angle),
            size,
            dst=np.zeros((size[1], size[0], 3), np.float32),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    return _cropped(pixels, changes.offset, crop) * np.float32(_LEVELS)


def changed_boxes(boxes: Floats, size: Size, changes: Changes) -> Floats:
    """Boxes (G, 4) of x, y, width and height that follow their image of a width and height."""
    boxes = boxes.astype(np.float32)
    if changes.flip:
        boxes[:, 0] = size[0] - boxes[:, 0] - boxes[:, 2] - 1
    factor = np.array(changes.size, np.float32) / np.array(size, np.float32)
    boxes = boxes * np.tile(factor, 2)
    if abs(changes.angle) > _LEAST_ANGLE:
        matrix = _matrix(changes.size, changes.angle).astype(np.float32)
        half = boxes[:, 2:] / 2
        centre = (boxes[:, :2] + half) @ matrix[:, :2].T + matrix[:, 2]
        boxes = np.concatenate([centre - half, boxes[:, 2:]], 1)
    boxes[:, :2] -= np.array(changes.offset, np.float32)
    return boxes


def _cropped(pixels: Floats, offset: Size, crop: Size) -> Floats:
    """The part at an offset; zeros where it lies outside of the image."""
    result = np.zeros((crop[1], crop[0], 3), np.float32)
    (left, top), (width, height) = offset, crop
    rows = slice(max(top, 0), min(top + height, pixels.shape[0]))
    columns = slice(max(left, 0), min(left + width, pixels.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        result[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = (
            pixels[rows, columns]
        )
    return result


def _corners(centre: tuple[float, float], size: Size, angle: float) -> NDArray[np.float64]:
    """Corners (4, 2) of a rectangle that is turned around its centre."""
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(size) / 2
    return half @ _rotation(angle).T + np.array(centre)


def _rotation(angle: float) -> NDArray[np.float64]:
    c, s = cos(radians(angle)), sin(radians(angle))
    return np.array([[c, -s], [s, c]])


def _turned_size(size: Size, angle: float) -> Size:
    """Width and height of the pixels that hold an image turned around its middle."""
    corners = _corners((size[0] // 2, size[1] // 2), size, angle)
    extent = [ceil(high) - floor(low) + 1 for low, high in zip(*_bounds(corners), strict=True)]
    return extent[0], extent[1]


def _matrix(size: Size, angle: float) -> NDArray[np.float64]:
    """The affine map (2, 3) of an image to where its turned pixels lie."""
    centre = np.array(size) / 2
    low, _ = _bounds(_corners((centre[0], centre[1]), size, angle))
    rotation = _rotation(angle)
    moved = centre - np.floor(low) - rotation @ centre
    return np.concatenate([rotation, moved[:, None]], 1)


def _bounds(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Single precision, as OpenCV has it: a turn by nothing stays within the image.
    exact = corners.astype(np.float32).astype(np.float64)
    return exact.min(0), exact.max(0)
