"""FlowNet's augmentation, against a copy of its steps for single pixels, and its draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from caffecompat.weights import LayerWeights, Weights
from tests.layers.messages import made, run
from tests.layers.single import call
from tests.net.nets import net as built

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


@pytest.mark.parametrize("entries", [False, True])
@pytest.mark.parametrize("prescale", [False, True])
def test_lpq_loss(entries: bool, prescale: bool) -> None:
    a, b = random_images(2, 3, 4, 5), random_images(2, 3, 4, 5).flip(0)
    a[0, 1, 2, 3] = math.nan
    text = f"""lpq_loss_param {{ p: 1.5 q: 0.4 p_epsilon: 0.02 q_epsilon: 0.03
        l2_prescale_by_channels: {str(prescale).lower()}
        normalize_by_num_entries: {str(entries).lower()} }}"""
    (loss,) = run("LpqLoss", text, a, b)
    total = 0.0
    for n, i, j in np.ndindex(2, 4, 5):
        inner = 0.0
        for c in range(3):
            d = float(a[n, c, i, j] - b[n, c, i, j])
            inner += ((0 if math.isnan(d) else abs(d)) + 0.02) ** 1.5
        total += (inner / (3 if prescale else 1) + 0.03) ** 0.4
    np.testing.assert_allclose(float(loss), total / (119 / 3 if entries else 2), rtol=1e-6)


def test_lpq_episodes() -> None:
    text = """lpq_loss_param { pq_episode_starts_at_iter: 0 pq_episode_starts_at_iter: 3
        p: 2 p: 1 q: 1 q: 2 }"""
    layer = made("LpqLoss", text, (1, 2, 1, 1))
    x = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)
    found = []
    for passed in (0, 2, 3):
        layer.noise.position.fill_(passed)
        found.append(float(layer.forward(x)))
    np.testing.assert_allclose(found, [10.01, 10.01, 4.01**2], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "p and q are missing"),
        ("p: 1", "as many"),
        ("p: 1 q: 1 pq_episode_starts_at_iter: 2", "start with 0"),
    ],
)
def test_wrong_lpq_settings(text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made("LpqLoss", f"lpq_loss_param {{ {text} }}", (1, 2, 3, 3))
