"""Detector: windows, their context, and what comes back."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.errors import DataError
from caffecompat.pycaffe import io
from caffecompat.pycaffe.detector import Detector, MissingSelectiveSearch
from tests.pycaffe.models import CLASSES, write_image, write_model

MEAN = np.array([10.0, 20, 30])


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    settings: Any = {"mean": MEAN, "raw_scale": 255, "channel_swap": (2, 1, 0)}
    return Detector(*write_model(tmp_path), **settings)


def test_windows(detector: Detector, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    names = [str(tmp_path / name) for name in ("a.png", "b.png")]
    images = [write_image(Path(name), seed=seed) for seed, name in enumerate(names)]
    windows = [np.array([[1, 2, 9, 8], [0, 0, 19, 10]]), np.array([[3.0, 4, 11, 12]])]
    found = detector.detect_windows(zip(names, windows, strict=True))
    assert [one["filename"] for one in found] == [names[0], names[0], names[1]]
    np.testing.assert_array_equal([one["window"] for one in found], np.concatenate(windows))
    cuts = [images[0][1:9, 2:8], images[0][:19, :10], images[1][3:11, 4:12]]
    values = np.stack([detector.transformer.preprocess("data", cut) for cut in cuts])
    expected = detector.forward_all(data=values)["prob"]
    np.testing.assert_allclose([one["prediction"] for one in found], expected, rtol=1e-5)
    assert expected.shape == (3, CLASSES)
    assert detector.detect_windows([(names[0], [])]) == []


def test_context_inside_the_image(detector: Detector) -> None:
    detector.configure_crop(2)
    image = np.random.default_rng(4).random((24, 26, 3)).astype(np.float32)
    # Around the middle (12, 13), twice the half sides of 4 pixels.
    found = detector.crop(image, [8, 9, 15, 16])
    np.testing.assert_allclose(found, io.resize_image(image[4:20, 5:21], (8, 8)))


def test_context_outside_the_image(detector: Detector) -> None:
    detector.configure_crop(2)
    image = np.random.default_rng(5).random((24, 26, 3)).astype(np.float32)
    # The box from -4 to 12 on both axes: 2 of 8 pixels are outside.
    found = detector.crop(image, np.array([0, 0, 7, 7]))
    assert found.shape == (8, 8, 3)
    np.testing.assert_allclose(found[2:, 2:], io.resize_image(image[:12, :12], (6, 6)))
    # What is outside is 0 for the net: the mean, in the order and units of an image.
    np.testing.assert_allclose(found[:2], np.broadcast_to(MEAN[::-1] / 255, (2, 8, 3)))
    values = detector.transformer.preprocess("data", found)
    np.testing.assert_allclose(values[:, :2], 0, atol=1e-5)


def test_context_without_a_mean(tmp_path: Path) -> None:
    detector = Detector(*write_model(tmp_path, height=6, width=8), context_pad=1)
    found = detector.crop(np.ones((20, 20, 3), np.float32), [0, 0, 4, 4])
    assert found.shape == (6, 8, 3)
    assert not found[0].any()
    assert found[-1, -1].all()


def test_mistakes(detector: Detector, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    name = str(tmp_path / "a.png")
    write_image(Path(name))
    for pad in (None, 2):
        detector.configure_crop(pad)
        with pytest.raises(DataError, match=r"a.png: window \(40, 0, 50, 9\) has no pixels"):
            detector.detect_windows([(name, [np.array([40, 0, 50, 9])])])
    with pytest.raises(DataError, match=r"expected \(ymin, xmin, ymax, xmax\)"):
        detector.crop(np.ones((9, 9, 3)), [1, 2, 3])
    with pytest.raises(DataError, match="context_pad is 4 on each side of an input of 8 x 8"):
        detector.configure_crop(4)
    with pytest.raises(DataError, match=r"missing.png: .*no such file"):
        detector.detect_windows([("missing.png", [[0, 0, 1, 1]])])


def test_selective_search(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(MissingSelectiveSearch, match="pass windows of your own to detect_windows"):
        detector.detect_selective_search(["a.png"])
    search: Any = types.ModuleType("selective_search_ijcv_with_python")
    search.get_windows = lambda names, cmd: [np.array([[0, 0, 9, 9]]) for _ in names]
    monkeypatch.setitem(sys.modules, search.__name__, search)
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.png")
    (found,) = detector.detect_selective_search(["a.png"])
    assert found["filename"] == str(tmp_path / "a.png")
