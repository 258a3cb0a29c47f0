"""Statistics, histograms and pictures of arrays."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from caffecompat.data.codec.images import decode_image
from caffecompat.draw.arrays.array_views import parameter_views
from caffecompat.draw.arrays.pictures import activation_picture, filter_picture
from caffecompat.draw.arrays.statistics import BINS, statistics_of
from caffecompat.errors import WeightsError
from caffecompat.weights import LayerWeights, Weights
from tests.draw.nets import INPUT, drawn, product


def pixels(found: tuple[str, str] | None) -> NDArray[np.uint8]:
    """The picture behind an address."""
    assert found is not None
    head, _, data = found[0].partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    decoded = decode_image(base64.b64decode(data), "color")
    assert decoded is not None
    return decoded


def test_statistics() -> None:
    values = np.array([[-1.0, 0.0, 0.0], [1.0, 2.0, 4.0]], np.float32)
    found = statistics_of(values)
    assert (found.shape, found.count, found.not_finite, found.sampled) == ((2, 3), 6, 0, 6)
    assert (found.minimum, found.maximum) == (-1, 4)
    assert found.zeros == pytest.approx(1 / 3)
    assert found.mean == pytest.approx(1)
    assert found.deviation == pytest.approx(values.std(dtype=np.float64))
    assert found.norm == pytest.approx(np.linalg.norm(values))
    counts, _ = np.histogram(values, BINS)
    assert found.histogram == tuple(counts)


def test_values_that_are_not_finite_are_counted() -> None:
    found = statistics_of(np.array([np.nan, np.inf, 1.0, 3.0], np.float32))
    assert (found.count, found.not_finite, found.mean, found.maximum) == (4, 2, 2, 3)
    assert sum(found.histogram) == 2
    nothing = statistics_of(np.full(3, np.nan, np.float32))
    assert (nothing.not_finite, nothing.histogram) == (3, ())
    assert statistics_of(np.zeros((0, 3), np.float32)).count == 0


def test_equal_values_are_one_bar() -> None:
    found = statistics_of(np.full((2, 2), 0.5, np.float32))
    assert sum(found.histogram) == max(found.histogram) == 4
    assert found.deviation == 0


def test_a_histogram_of_many_values_is_sampled() -> None:
    values = np.zeros((1 << 21) + 8, np.float32)
    values[-1] = 1
    found = statistics_of(values)
    assert found.maximum == 1
    assert found.sampled == sum(found.histogram) < found.count


def test_filters_of_three_channels_are_in_colour() -> None:
    weight = np.zeros((2, 3, 3, 3), np.float32)
    weight[0, 0] = 1  # blue, as the channels are B, G, R
    found = pixels(filter_picture(weight))
    first, second = found[6, 6], found[6, 6 + 13]
    assert first[0] == 255
    assert {int(value) for value in (*first[1:], *second)} <= {127, 128}


def test_kernels_are_red_above_zero_and_blue_below() -> None:
    weight = np.zeros((1, 2, 2, 2), np.float32)
    weight[0, 0], weight[0, 1] = 1, -1
    found = pixels(filter_picture(weight))
    positive, negative = found[6, 6], found[6, 6 + 13]
    assert positive[2] > positive[0]
    assert negative[0] > negative[2]


def test_a_large_matrix_is_averaged() -> None:
    matrix = np.ones((1000, 600), np.float32)
    found = filter_picture(matrix)
    assert pixels(found).shape == (128, 256, 3)
    assert found is not None
    assert "1,000 outputs (rows) and 600 inputs, averaged over neighbours" in found[1]


@pytest.mark.parametrize("shape", [(7,), (1, 5), (2, 3, 4, 5, 6), (0, 3, 3, 3), (2, 2, 99, 99)])
def test_some_shapes_have_no_picture(shape: tuple[int, ...]) -> None:
    assert filter_picture(np.ones(shape, np.float32)) is None


def test_maps_are_light_where_they_are_large() -> None:
    value = np.zeros((2, 10, 10), np.float32)
    value[1] = np.linspace(0, 1, 100).reshape(10, 10)
    found = activation_picture(value)
    shown = pixels(found).astype(int).sum(2)
    assert shown[2, 2] < shown[10, 20]
    assert found is not None
    assert found[1].startswith("all 2 channels; dark is 0")


def test_maps_with_odd_values() -> None:
    value = np.zeros((70, 100, 50), np.float32)
    value[0, 0, 0], value[1, 0, 0], value[2] = np.nan, np.inf, 5
    found = activation_picture(value)
    # 64 maps of at most 48 pixels, in 8 rows
    assert pixels(found).shape == (8 * 49 + 1, 8 * 25 + 1, 3)
    assert found is not None
    assert "the first 64 of 70 channels" in found[1]
    assert activation_picture(np.zeros((3, 4, 4), np.float32)) is None
    assert activation_picture(np.full((3, 4, 4), np.nan, np.float32)) is None
    assert activation_picture(np.ones((1000, 1, 1), np.float32)) is None


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    diagram = drawn(tmp_path, INPUT + product("fc", "data"))
    stored = Weights([LayerWeights("other", blobs=[np.ones(3, np.float32)])], path="w.npz")
    with pytest.raises(WeightsError, match=r"w.npz: no layer of net.prototxt has weights"):
        parameter_views(diagram, stored, lambda name: None)
