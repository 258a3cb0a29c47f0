"""PriorBox and PriorBoxClustered, against loops over positions and boxes."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from caffecompat.layers import BuildOptions, Context, catalogue
from tests.layers.messages import made, message, run

FEATURES, IMAGE = torch.zeros(2, 5, 3, 4), torch.zeros(2, 3, 60, 100)


def grid(
    sizes: list[tuple[float, float]],
    step: tuple[float, float] = (25.0, 20.0),
    offset: float = 0.5,
    image: tuple[float, float] = (100.0, 60.0),
) -> np.ndarray:
    """(xmin, ymin, xmax, ymax) for widths and heights at each of 3 x 4 positions."""
    rows = []
    for i in range(3):
        for j in range(4):
            x, y = (j + offset) * step[0], (i + offset) * step[1]
            for width, height in sizes:
                corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                rows.append([c / image[k % 2] for k, c in enumerate(corners)])
    return np.array(rows)


def priors(text: str, type_name: str = "PriorBox") -> np.ndarray:
    (top,) = run(type_name, f"prior_box_param {{ {text} }}", FEATURES, IMAGE)
    assert top.shape[:2] == (1, 2)
    return top.numpy().reshape(2, -1, 4)


def test_sizes_and_ratios_in_their_order() -> None:
    text = "min_size: 10 min_size: 21.9 max_size: 20 max_size: 40 aspect_ratio: 2 aspect_ratio: 3"
    sizes: list[tuple[float, float]] = []
    for low, high in ((10, 20), (21, 40)):
        sizes += [(low, low), (sqrt(low * high),) * 2]
        sizes += [(low * sqrt(r), low / sqrt(r)) for r in (2, 1 / 2, 3, 1 / 3)]
    boxes, variances = priors(text)
    np.testing.assert_allclose(boxes, grid(sizes), rtol=1e-5, atol=1e-6)
    assert (variances == np.float32(0.1)).all()


def test_repeated_ratios_count_once() -> None:
    assert len(priors("min_size: 8 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 0.5")[0]) == 36
    text = "min_size: 8 flip: false aspect_ratio: 2 aspect_ratio: 2"
    np.testing.assert_allclose(
        priors(text)[0], grid([(8, 8), (8 * sqrt(2), 8 / sqrt(2))]), rtol=1e-5, atol=1e-6
    )


def test_stated_image_step_offset_clip_and_variances() -> None:
    text = (
        "min_size: 30 img_h: 50 img_w: 80 step_h: 12 step_w: 16 offset: 0.25 clip: true "
        "variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4"
    )
    boxes, variances = priors(text)
    expected = grid([(30, 30)], (16, 12), 0.25, (80, 50)).clip(0, 1)
    np.testing.assert_allclose(boxes, expected, rtol=1e-5, atol=1e-6)
    assert variances.tolist() == [pytest.approx([0.1, 0.2, 0.3, 0.4])] * 12


def test_clustered_sizes_are_not_truncated() -> None:
    text = "width: 9.4 width: 25.1 height: 15 height: 40.5 step: 16"
    expected = grid([(9.4, 15), (25.1, 40.5)], (16, 16))
    np.testing.assert_allclose(priors(text, "PriorBoxClustered")[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no min_size"),
        ("min_size: 0", "min_size is 0"),
        ("min_size: 5 max_size: 5", "max_size 5 must be greater than its min_size 5"),
        ("min_size: 5 min_size: 6 max_size: 9", "2 min_size and 1 max_size"),
        ("min_size: 5 aspect_ratio: 0", "aspect_ratio is 0"),
        ("min_size: 5 variance: 0.1 variance: 0.2", "give one or four"),
        ("min_size: 5 step: 4 step_h: 4", "step and step_h or step_w are both given"),
        ("min_size: 5 img_h: 4", "img_h and img_w are 4 and 0"),
        ("min_size: 5 faceboxes: true", "faceboxes: from another Caffe version"),
    ],
)
def test_refusals(text: str, sentence: str) -> None:
    with pytest.raises(LayerError, match=sentence):
        made("PriorBox", f"prior_box_param {{ {text} }}", (1, 2, 3, 4), (1, 3, 60, 100))


def test_clustered_needs_as_many_heights_as_widths() -> None:
    with pytest.raises(LayerError, match="2 width and 1 height"):
        made(
            "PriorBoxClustered",
            "prior_box_param { width: 3 width: 4 height: 5 }",
            *((1, 2, 3, 4), (1, 3, 60, 100)),
        )


def test_dense_boxes_of_faceboxes() -> None:
    definition = message(
        "PriorBox", "prior_box_param { min_size: 32 min_size: 64 min_size: 128 step: 32 }"
    )
    shapes = ((1, 2, 3, 4), (1, 3, 60, 100))
    layer = catalogue.find("PriorBox")(Context("TEST", "here", BuildOptions(dialect="FaceBoxes")))
    layer.setup(definition, shapes)
    boxes = layer.forward(FEATURES, IMAGE).numpy().reshape(2, -1, 4)[0]
    assert len(boxes) == 12 * 21
    x, y = 16, 16
    wanted = [(x + 8 * j, y + 8 * i, 31) for i in range(-2, 2) for j in range(-2, 2)]
    wanted += [(x + 16 * j, y + 16 * i, 63) for i in range(-1, 1) for j in range(-1, 1)]
    wanted += [(x, y, 127)]
    corners = [[(a - s / 2), (b - s / 2), (a + s / 2), (b + s / 2)] for a, b, s in wanted]
    np.testing.assert_allclose(boxes[:21] * [100, 60, 100, 60], corners, rtol=1e-4, atol=1e-3)
    plain = catalogue.find("PriorBox")(Context("TEST", "here", BuildOptions()))
    plain.setup(definition, shapes)
    assert plain.notes[0].endswith("state dialect='faceboxes' (--dialect faceboxes)")
    assert plain.forward(FEATURES, IMAGE).shape == (1, 2, 12 * 3 * 4)


def test_denser_boxes_of_textboxes() -> None:
    text = "min_size: 10 max_size: 20 aspect_ratio: 2 flip: false denser_prior_boxes: true"
    sizes = [(10, 10), (sqrt(200), sqrt(200)), (10 * sqrt(2), 10 / sqrt(2))]
    upper = grid(sizes).reshape(12, 3, 4)
    lower = upper + np.array([0, 10 / 60, 0, 10 / 60])
    boxes, _ = priors(text)
    wanted = np.stack([upper, lower], 2).reshape(-1, 4)
    np.testing.assert_allclose(boxes, wanted, rtol=1e-5, atol=1e-6)
    moved = grid(sizes, offset=0.25).reshape(12, 3, 4)
    boxes = priors(f"{text} offset: 0.25")[0].reshape(12, 3, 2, 4)
    np.testing.assert_allclose(boxes[:, :, 0], moved, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(boxes[:, :, 1, 1::2], lower[:, :, 1::2], rtol=1e-5, atol=1e-6)
