"""Classifier against the predictions of pycaffe of BVLC Caffe 1.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.pycaffe.classifier import Classifier


@pytest.mark.parametrize(("oversample", "key"), [(False, "center"), (True, "oversample")])
def test_predictions(oversample: bool, key: str, golden: Path) -> None:
    folder = golden / "pycaffe"
    net = Classifier(
        str(folder / "cls.prototxt"),
        str(folder / "cls.caffemodel"),
        image_dims=(10, 11),
        mean=np.array([10.0, 20, 30]),
        raw_scale=255,
        channel_swap=(2, 1, 0),
        input_scale=0.01,
    )
    with np.load(folder / "pycaffe.npz") as arrays:
        images = [arrays["classifier/im0"], arrays["classifier/im1"]]
        expected = arrays[f"classifier/{key}"]
    found = net.predict(images, oversample)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
