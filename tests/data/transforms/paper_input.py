"""The paper's training input: definitions, and images for it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from caffecompat.data.transforms.transform import Transform
from caffecompat.proto import schema

# Orthonormal rows (B, G, R), and how far the shift goes along each.
DIRECTIONS = np.linalg.qr(np.array([[3.0, 1, 0.2], [2, -1, 1], [1, 0.5, -2]]))[0]
VALUES = [55.46, 4.794, 1.148]
COLOUR: dict[str, Any] = {
    "colour_shift_std": 0.1,
    "colour_eigenvalue": VALUES,
    "colour_eigenvector": DIRECTIONS.ravel().tolist(),
}
JITTER: dict[str, Any] = {"img_rand_resize_lower": 16, "img_rand_resize_upper": 19}
PAPER: dict[str, Any] = {
    **COLOUR,
    **JITTER,
    "crop_size": 13,
    "mirror": True,
    "mean_value": [104.0, 117.0, 123.0],
    "scale": 0.5,
}


def transform(phase: str = "TRAIN", **fields: Any) -> Transform:
    made = schema.new("TransformationParameter")
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(made, name).extend(value)
        else:
            setattr(made, name, value)
    return Transform(made, phase)


def noise(channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (channels, height, width), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return bytes(cv2.imencode(".png", image)[1])


def float_datum(values: np.ndarray, label: int = 0) -> bytes:
    made = schema.new("Datum")
    made.channels, made.height, made.width = values.shape
    made.float_data.extend(values.ravel().tolist())
    made.label = label
    return bytes(made.SerializeToString())
