"""FlowNet's augmentation of images and flow, against a copy of its steps for single pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from caffecompat.weights import LayerWeights, Weights
from tests.layers.forks.flow.references import (
    COEFFICIENTS,
    EIGENVECTORS,
    affine,
    contrasted,
    cropped,
    eigen_changed,
    random_images,
    rows,
)
from tests.layers.messages import made, run
from tests.layers.single import call
from tests.net.nets import net as built


def augment(x: Tensor, given: Tensor, text: str) -> Tensor:
    text = f"augmentation_param {{ crop_width: 6 crop_height: 5 {text} }}"
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    return run("DataAugmentation", text, x, given, parameters=(zero,), phase="TEST")[0]


@pytest.mark.parametrize(
    "sample",
    [
        {},
        {"mirror": 1.0},
        {"dx": 0.2, "dy": -0.1},
        {"angle": 0.3},
        {"zoom_x": 1.5, "zoom_y": 0.8},
        {"mirror": 1.0, "dx": -0.3, "angle": -0.7, "zoom_x": 0.7, "zoom_y": 0.9},
        {"dx": 0.0005, "zoom_y": 1.0005},
    ],
)
def test_crops(sample: dict[str, float]) -> None:
    x = random_images(2, 4, 8, 9)
    found = augment(x, rows(sample, {}), "")
    kept = {name: value for name, value in sample.items() if value not in (0.0005, 1.0005)}
    wanted = [cropped(image, c, (5, 6)) for image, c in zip(x.numpy(), (kept, {}), strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_colours() -> None:
    x = random_images(2, 3, 8, 9)
    sample = {"gamma": 1.3, "brightness": 0.1, "contrast": 0.8, "color1": 1.2, "color3": 0.7}
    found = augment(x, rows(sample, {}), "max_multiplier: 1")
    for n, c in enumerate((sample, {})):
        wanted = cropped(x[n].numpy(), {}, (5, 6))
        for i, j in np.ndindex(5, 6):
            wanted[:, i, j] = contrasted(wanted[:, i, j], {**COEFFICIENTS, **c}, 1)
        np.testing.assert_allclose(found[n], wanted, atol=1e-9)


def test_colours_along_directions() -> None:
    x = random_images(2, 3, 8, 9)
    sample = {
        "pow_nomean0": 1.2,
        "add_nomean1": 0.05,
        "mult_nomean2": 1.1,
        "pow_withmean0": 0.9,
        "add_withmean0": 0.02,
        "mult_withmean0": 1.05,
        "pow_withmean1": 1.1,
        "add_withmean1": 0.03,
        "mult_withmean1": 0.9,
        "col_angle": 0.4,
        "lmult_pow": 1.1,
        "lmult_add": 0.02,
        "lmult_mult": 1.1,
    }
    settings = " ".join(f"chromatic_eigvec: {v}" for v in EIGENVECTORS)
    found = augment(x, rows(sample, {}), f"max_multiplier: 1 {settings}")
    for n, c in enumerate((sample, {})):
        wanted = cropped(x[n].numpy(), {}, (5, 6))
        for i, j in np.ndindex(5, 6):
            pixel = wanted[:, i, j].copy()
            wanted[:, i, j] = eigen_changed(pixel, {**COEFFICIENTS, **c}, x.numpy(), 1)
        np.testing.assert_allclose(found[n], wanted, atol=1e-6)


def test_shadow() -> None:
    x = random_images(1, 3, 8, 9)
    sample = {"shadow_angle": 0.5, "shadow_distance": 0.8, "shadow_strength": 0.4}
    found = augment(x, rows(sample), "max_multiplier: 1")
    wanted = cropped(x[0].numpy(), {}, (5, 6))
    for i, j in np.ndindex(5, 6):
        if (j - 3) * math.cos(0.5) + (i - 2) * math.sin(0.5) - 0.8 > 0:
            wanted[:, i, j] -= 0.4
    np.testing.assert_allclose(found[0], wanted.clip(0, 1), atol=1e-9)


def test_noise() -> None:
    x = torch.full((4, 3, 40, 40), 0.5, dtype=torch.float64)
    text = "augmentation_param { crop_width: 30 crop_height: 30 max_multiplier: 1 }"
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    given = rows({"noise": 0.1}, {"noise": 0.2}, {}, {})
    (y,) = run("DataAugmentation", text, x, given, parameters=(zero,))
    assert abs(float(y[0].std()) - 0.1) < 0.01
    assert abs(float(y[1].std()) - 0.2) < 0.02
    assert abs(float(y[:2].mean()) - 0.5) < 0.01
    assert (y[2:] == 0.5).all()


def test_test_phase_takes_the_middle_and_draws_nothing() -> None:
    x = random_images(2, 3, 9, 8)
    text = "augmentation_param { crop_width: 4 crop_height: 5 mirror { rand_type: 'bernoulli' } }"
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    y, given = run("DataAugmentation", text, x, parameters=(zero,), tops=2, phase="TEST")
    torch.testing.assert_close(y, x[:, :, 2:7, 2:6], atol=0, rtol=0)
    assert given.shape == (2, 42, 1, 1)
    assert not given.any()


@pytest.mark.parametrize("per_pixel", [True, False])
def test_the_mean_of_the_first_passes(per_pixel: bool) -> None:
    text = f"augmentation_param {{ recompute_mean: 2 mean_per_pixel: {str(per_pixel).lower()} }}"
    state = [
        torch.zeros(s, dtype=torch.float64) for s in ((1, 1, 1, 1), (1, 3, 4, 5), (1, 3, 1, 1))
    ]
    passes = [random_images(2, 3, 4, 5) * (k + 1) for k in range(3)]
    for k, x in enumerate(passes):
        (y,) = run("DataAugmentation", text, x, parameters=state, phase="TEST")
        image = torch.cat(passes[: min(k + 1, 2)]).mean(0, keepdim=True)
        wanted = x - (image if per_pixel else image.mean((2, 3), keepdim=True))
        torch.testing.assert_close(y, wanted)
    assert state[0].item() == 3


def test_given_means() -> None:
    x = random_images(2, 3, 4, 5)
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    text = "augmentation_param { mean: 0.1 mean: 0.2 mean: 0.3 "
    (y,) = run("DataAugmentation", text + "mean_per_pixel: false }", x, parameters=(zero,))
    torch.testing.assert_close(y, x - torch.tensor([0.1, 0.2, 0.3]).double().view(1, 3, 1, 1))
    (y,) = run("DataAugmentation", text + "}", x, parameters=(zero,))
    assert torch.equal(y, x)


@pytest.mark.parametrize("per_pixel", [True, False])
def test_weights_of_another_crop(per_pixel: bool) -> None:
    net = built(
        "input: 'x' input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 7 layer { name: 'a' "
        "type: 'DataAugmentation' bottom: 'x' top: 'y' augmentation_param { crop_width: 5 "
        f"crop_height: 4 recompute_mean: 10 mean_per_pixel: {str(per_pixel).lower()} }} }}",
        phase="TEST",
    )
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    mean = np.array([5, 6, 7], np.float32).reshape(1, 3, 1, 1)
    count = np.full((1, 1, 1, 1), 10, np.float32)
    net.load_weights(Weights([LayerWeights("a", "DataAugmentation", [count, image, mean])]))
    wanted = image.mean((2, 3), keepdims=True) if per_pixel else mean
    x = np.ones((1, 3, 6, 7), np.float32)
    net.blobs["x"].data[...] = x
    found = net.forward()["y"]
    np.testing.assert_allclose(found, np.broadcast_to(1 - wanted, (1, 3, 4, 5)), rtol=1e-6)


def test_flow_between_crops() -> None:
    flow = random_images(2, 2, 9, 10) * 4 - 2
    first = [{"angle": 0.2, "dx": 0.1}, {"mirror": 1.0, "zoom_x": 1.4, "zoom_y": 1.4}]
    second = [{"zoom_x": 1.2, "zoom_y": 1.1, "angle": -0.2}, {"mirror": 1.0, "dy": 0.1}]
    text = "augmentation_param { crop_width: 6 crop_height: 5 }"
    (found,) = run("FlowAugmentation", text, flow, rows(*first), rows(*second))
    assert found.shape == (2, 2, 5, 6)
    for n in range(2):
        there = affine(first[n], (5, 6), (9, 10))
        back = np.linalg.inv(affine(second[n], (5, 6), (9, 10)))
        for i, j in np.ndindex(5, 6):
            px, py, _ = there @ [j, i, 1]
            column, row = min(int(px + 0.5), 9), min(int(py + 0.5), 8)
            end = [px + float(flow[n, 0, row, column]), py + float(flow[n, 1, row, column]), 1]
            x, y, _ = back @ end
            np.testing.assert_allclose(found[n, :, i, j], [x - j, y - i], atol=1e-9)


def test_unchanged_crops_keep_the_flow() -> None:
    flow = random_images(1, 2, 6, 6)
    text = "augmentation_param { crop_width: 4 crop_height: 4 }"
    (found,) = run("FlowAugmentation", text, flow, rows({}), rows({}))
    torch.testing.assert_close(found, flow[:, :, 1:5, 1:5])


@pytest.mark.parametrize(
    ("kind", "text", "shapes", "sentence"),
    [
        ("DataAugmentation", "crop_width: 9 crop_height: 3", [(1, 3, 8, 8)], "the crop is 3x9"),
        (
            "DataAugmentation",
            "crop_width: 4 crop_height: 4 gamma { }",
            [(1, 2, 8, 8)],
            "3 channels",
        ),
        (
            "DataAugmentation",
            "crop_width: 4 crop_height: 4 sat_pow { }",
            [(1, 3, 8, 8)],
            "must have 9",
        ),
        (
            "DataAugmentation",
            "crop_width: 4 crop_height: 4 zoom { rand_type: 'x' }",
            [(1, 3, 8, 8)],
            "zoom.rand_type is 'x'",
        ),
        (
            "DataAugmentation",
            "crop_width: 1 crop_height: 4 zoom { }",
            [(1, 3, 8, 8)],
            "2 x 2 pixels",
        ),
        ("DataAugmentation", "", [(1, 3, 8, 8), (1, 41, 1, 1)], None),
        ("GenerateAugmentationParameters", "", [(1, 42, 1, 1)], "crop_width"),
        ("GenerateAugmentationParameters", "mode: 'x'", [(1, 42, 1, 1)], "mode is 'x'"),
        ("FlowAugmentation", "", [(1, 2, 8, 8), (1, 42, 1, 1), (1, 42, 1, 1)], "crop_width"),
    ],
)
def test_refusals(
    kind: str, text: str, shapes: list[tuple[int, ...]], sentence: str | None
) -> None:
    def tried() -> None:
        layer = made(kind, f"augmentation_param {{ {text} }}", *shapes)
        call(layer, [torch.zeros(s) for s in shapes], [torch.zeros(s.shape) for s in layer.specs])

    with pytest.raises(LayerError, match=sentence or "42 coefficients"):
        tried()
