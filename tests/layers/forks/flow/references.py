"""The steps of FlowNet's augmentation for single pixels, and rows of its coefficients."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

# In the order of FlowNet's message: name and neutral value.
COEFFICIENTS = {
    **dict.fromkeys(["mirror", "dx", "dy", "angle"], 0.0),
    **dict.fromkeys(["zoom_x", "zoom_y", "gamma"], 1.0),
    "brightness": 0.0,
    **dict.fromkeys(["contrast", "color1", "color2", "color3"], 1.0),
    **dict.fromkeys(["pow_nomean0", "pow_nomean1", "pow_nomean2"], 1.0),
    **dict.fromkeys(["add_nomean0", "add_nomean1", "add_nomean2"], 0.0),
    **dict.fromkeys(["mult_nomean0", "mult_nomean1", "mult_nomean2"], 1.0),
    **dict.fromkeys(["pow_withmean0", "pow_withmean1", "pow_withmean2"], 1.0),
    **dict.fromkeys(["add_withmean0", "add_withmean1", "add_withmean2"], 0.0),
    **dict.fromkeys(["mult_withmean0", "mult_withmean1", "mult_withmean2"], 1.0),
    "lmult_pow": 1.0,
    "lmult_add": 0.0,
    "lmult_mult": 1.0,
    "col_angle": 0.0,
    **dict.fromkeys(["fog_amount", "fog_size", "motion_blur_angle", "motion_blur_size"], 0.0),
    **dict.fromkeys(["shadow_angle", "shadow_distance", "shadow_strength", "noise"], 0.0),
}
EIGENVECTORS = [0.51, 0.56, 0.65, 0.79, 0.01, -0.62, 0.35, -0.83, 0.44]


def rows(*samples: dict[str, float]) -> Tensor:
    """The blob of coefficients of samples."""
    found = np.zeros((len(samples), 42, 1, 1))
    for n, sample in enumerate(samples):
        for k, (name, default) in enumerate(COEFFICIENTS.items()):
            value = sample.get(name, default)
            found[n, k] = math.log(value) if default else value
    return torch.tensor(found)


def values_of(row: Tensor) -> dict[str, float]:
    found = {}
    for number, (name, default) in zip(row.reshape(-1).tolist(), COEFFICIENTS.items(), strict=True):
        found[name] = math.exp(number) if default else number
    return found


def affine(sample: dict[str, float], crop: tuple[int, int], image: tuple[int, int]) -> np.ndarray:
    """The 3 x 3 matrix, as a product of single steps."""
    c = {**COEFFICIENTS, **sample}
    (h, w), (height, width) = crop, image

    def step(a: float, b: float, d: float, e: float, tx: float, ty: float) -> np.ndarray:
        return np.array([[a, b, tx], [d, e, ty], [0, 0, 1]])

    cos, sin = math.cos(c["angle"]), math.sin(c["angle"])
    first = step(-1, 0, 0, 1, w / 2, -h / 2) if c["mirror"] else step(1, 0, 0, 1, -w / 2, -h / 2)
    result = step(cos, -sin, sin, cos, 0, 0) @ first
    result = step(1, 0, 0, 1, c["dx"] * w, c["dy"] * h) @ result
    result = step(1 / c["zoom_x"], 0, 0, 1 / c["zoom_y"], 0, 0) @ result
    return step(1, 0, 0, 1, width / 2, height / 2) @ result


def cropped(x: np.ndarray, sample: dict[str, float], crop: tuple[int, int]) -> np.ndarray:
    channels, height, width = x.shape
    matrix = affine(sample, crop, (height, width))
    y = np.zeros((channels, *crop))
    for i in range(crop[0]):
        for j in range(crop[1]):
            px, py, _ = matrix @ [j, i, 1]
            px = max(0, min(px, width - 1.05))
            py = max(0, min(py, height - 1.05))
            left, top = math.floor(px), math.floor(py)
            for a in (0, 1):
                for b in (0, 1):
                    weight = (py - top if a else 1 - py + top) * (px - left if b else 1 - px + left)
                    if weight:
                        y[:, i, j] += weight * x[:, top + a, left + b]
    return y


def clip(x: float, low: float, high: float) -> float:
    return max(low, min(x, high))


def contrasted(rgb: np.ndarray, c: dict[str, float], limit: float) -> list[float]:
    coloured = [rgb[k] * c[f"color{k + 1}"] for k in range(3)]
    kept = sum(rgb) / (sum(coloured) + 0.01)
    result = []
    for value in coloured:
        x = clip(value * kept, 0, 1) ** c["gamma"] + c["brightness"]
        result.append(clip(0.5 + (x - 0.5) * c["contrast"], 0, limit))
    return result


def signed_power(x: float, e: float) -> float:
    return math.copysign(abs(x) ** e, x)


def eigen_changed(
    rgb: np.ndarray, c: dict[str, float], batch: np.ndarray, limit: float
) -> list[float]:
    """One pixel of ChromaticEigenAugmentation, in its own order of steps."""
    vectors = np.array(EIGENVECTORS).reshape(3, 3)
    pixels = batch.transpose(0, 2, 3, 1).reshape(-1, 3)
    mean = pixels.mean(0)
    most = np.abs(pixels @ vectors.T).max(0)
    mean_along = vectors @ mean
    eig = vectors @ (rgb - mean)
    for k in range(3):
        if most[k] > 1e-2:
            mean_along[k] /= most[k]
            eig[k] = signed_power(eig[k] / most[k], c[f"pow_nomean{k}"])
            eig[k] = (eig[k] + c[f"add_nomean{k}"]) * c[f"mult_nomean{k}"]
    eig = eig + mean_along
    if most[0] > 1e-2:
        eig[0] = signed_power(eig[0], c["pow_withmean0"])
        eig[0] = (eig[0] + c["add_withmean0"]) * c["mult_withmean0"]
    s = s1 = math.hypot(eig[1], eig[2])
    if s > 1e-2:
        s1 = max(s1 ** c["pow_withmean1"] + c["add_withmean1"], 0) * c["mult_withmean1"]
    a = c["col_angle"]
    eig[1], eig[2] = (
        math.cos(a) * eig[1] - math.sin(a) * eig[2],
        math.sin(a) * eig[1] + math.cos(a) * eig[2],
    )
    for k in range(3):
        if most[k] > 1e-2:
            eig[k] *= most[k]
    longest = math.sqrt((most**2).sum())
    length = math.sqrt((eig**2).sum()) / longest
    if s > 1e-2:
        eig[1:] = eig[1:] / s * s1
    now = math.sqrt((eig**2).sum())
    length = max(length ** c["lmult_pow"] + c["lmult_add"], 0) * c["lmult_mult"] * longest
    if now > 1e-2:
        eig = np.minimum(eig / now * length, most)
    return [clip(value, 0, limit) for value in vectors.T @ eig]


def random_images(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
