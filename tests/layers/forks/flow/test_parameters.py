"""The random coefficients of FlowNet's augmentation: kinds, modes, positions, schedule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.layers.forks.flow.references import (
    COEFFICIENTS,
    affine,
    rows,
    values_of,
)
from tests.layers.messages import made, run


def generated(text: str, first: Tensor, *more: Tensor, phase: str = "TRAIN") -> Tensor:
    text = f"augmentation_param {{ {text} }}"
    return run("GenerateAugmentationParameters", text, first, *more, phase=phase)[0]


def columns(blob: Tensor, name: str) -> np.ndarray:
    place = list(COEFFICIENTS).index(name)
    column = blob[:, place, 0, 0]
    return (column.exp() if COEFFICIENTS[name] else column).numpy()


SIZES = "crop_width: 20 crop_height: 20 bottomwidth: 40 bottomheight: 40"


def test_random_kinds() -> None:
    text = f"""{SIZES}
        gamma {{ rand_type: 'uniform' mean: 2 spread: 0.5 }}
        contrast {{ rand_type: 'gaussian' mean: 0.1 spread: 0.2 exp: true }}
        brightness {{ rand_type: 'bernoulli' prob: 0.3 multiplier: 4 }}
        color {{ rand_type: 'uniform_bernoulli' mean: 0.5 spread: 0 prob: 0.25 exp: true }}
        noise {{ rand_type: 'gaussian_bernoulli' mean: 3 spread: 1 prob: 0.5 discretize: true }}
        fog_amount {{ rand_type: 'uniform_bernoulli' mean: 1 prob: 0 }}"""
    found = generated(text, torch.zeros(4000, 42, 1, 1, dtype=torch.float64))
    gamma = columns(found, "gamma")
    assert 1.5 <= gamma.min() < 1.52
    assert 2.48 < gamma.max() <= 2.5
    assert abs(gamma.mean() - 2) < 0.03
    logs = np.log(columns(found, "contrast"))
    assert abs(logs.mean() - 0.1) < 0.02
    assert abs(logs.std() - 0.2) < 0.02
    brightness = columns(found, "brightness")
    assert set(brightness) == {0.0, 4.0}
    assert abs(brightness.mean() - 1.2) < 0.12
    colours = np.stack([columns(found, f"color{k}") for k in (1, 2, 3)])
    np.testing.assert_allclose(np.unique(colours.round(6)), [1, round(math.exp(0.5), 6)])
    assert abs((colours > 1.2).mean() - 0.25) < 0.03
    assert abs(np.corrcoef(colours)[0, 1]) < 0.1
    noise = columns(found, "noise")
    assert (noise == noise.round()).all()
    assert abs((noise == 0).mean() - 0.5) < 0.05
    assert not columns(found, "fog_amount").any()


def test_positions_keep_the_crop_inside() -> None:
    text = f"""{SIZES} rotate {{ spread: 0.5 }} translate {{ spread: 0.4 }}
        zoom {{ rand_type: 'uniform' spread: 0.5 exp: true }} mirror {{ rand_type: 'bernoulli'
        prob: 0.5 }} squeeze {{ spread: 0.2 exp: true }}"""
    found = generated(text, torch.zeros(400, 42, 1, 1, dtype=torch.float64))
    assert 0.4 < columns(found, "mirror").mean() < 0.6
    ratio = columns(found, "zoom_x") / columns(found, "zoom_y")
    assert 1.2 < ratio.max() <= math.exp(0.4)
    for row in found:
        matrix = affine(values_of(row), (20, 20), (40, 40))
        corners = np.floor(matrix @ [[0, 19, 0, 19], [0, 0, 19, 19], [1] * 4])[:2]
        assert corners.min() >= 0
        assert corners.max() <= 38


def test_impossible_positions_leave_them_as_they_were() -> None:
    text = f"{SIZES} translate {{ mean: 5 }} gamma {{ mean: 2 }}"
    before = rows({"dx": 0.25, "gamma": 3.0})
    found = generated(text, before)
    assert columns(found, "dx").tolist() == [0.25]
    np.testing.assert_allclose(columns(found, "gamma"), 6)


@pytest.mark.parametrize(
    ("mode", "angle", "zoom", "gamma", "contrast"),
    [
        ("add", 0.3, 1.2, 6, 1.5),
        ("replace", 0.1, 1, 2, 1.5),
        ("regenerate", 0.1, 1, 2, 1),
    ],
)
def test_modes(mode: str, angle: float, zoom: float, gamma: float, contrast: float) -> None:
    before = rows({"angle": 0.2, "zoom_x": 1.2, "gamma": 3.0, "contrast": 1.5})
    text = f"{SIZES} mode: '{mode}' rotate {{ mean: 0.1 }} gamma {{ mean: 2 }}"
    found = generated(text, before)
    for name, value in (
        ("angle", angle),
        ("zoom_x", zoom),
        ("gamma", gamma),
        ("contrast", contrast),
    ):
        np.testing.assert_allclose(columns(found, name), [value], rtol=1e-6)
    still = generated(text, before, phase="TEST")
    assert torch.equal(still, torch.zeros_like(before) if mode == "regenerate" else before)


def test_sizes_from_images() -> None:
    image, crop = torch.zeros(3, 3, 40, 50), torch.zeros(3, 3, 20, 30)
    first = torch.zeros(3, 42, 1, 1)
    found = generated("rotate { mean: 0.1 }", first, image, crop)
    np.testing.assert_allclose(columns(found, "angle"), 0.1, rtol=1e-6)
    found = generated("crop_width: 30 crop_height: 20 rotate { mean: 0.1 }", image)
    assert found.shape == (3, 42, 1, 1)


def test_schedule() -> None:
    layer = made(
        "GenerateAugmentationParameters",
        f"augmentation_param {{ {SIZES} gamma {{ rand_type: 'uniform' mean: 10 spread: 8 }} "
        "contrast { rand_type: 'uniform' mean: 10 spread: 8 apply_schedule: false } } "
        "coeff_schedule_param { half_life: 5 initial_coeff: 0.5 final_coeff: 1 }",
        (3000, 42, 1, 1),
    )
    zero = torch.zeros(3000, 42, 1, 1, dtype=torch.float64)
    for passed in (0, 4, 500):
        layer.noise.position.fill_(passed)
        found: Any = layer.forward(zero)
        way = 2 / (1 + math.exp(-1.0986 * (passed + 1) / 5)) - 1
        largest = np.abs(columns(found, "gamma") - 10).max()
        assert 0.97 < largest / (8 * (0.5 + 0.5 * way)) <= 1.000001
        assert np.abs(columns(found, "contrast") - 10).max() > 7.9
