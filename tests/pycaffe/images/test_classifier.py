"""Classifier beyond what was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import DataError
from caffecompat.pycaffe.classifier import Classifier
from tests.pycaffe.models import CLASSES, write_model


def test_one_image_as_by_hand(tmp_path: Path) -> None:
    net = Classifier(*write_model(tmp_path), raw_scale=3, mean=np.array([0.1, 0.2, 0.3]))
    image = np.random.default_rng(1).random((8, 8, 3)).astype(np.float32)
    values = 3 * image.transpose(2, 0, 1) - np.array([0.1, 0.2, 0.3])[:, None, None]
    found = net.predict([image], oversample=False)
    assert found.shape == (1, CLASSES)
    net.blobs["data"].reshape(1, 3, 8, 8)
    np.testing.assert_allclose(
        found, net.forward(data=values[None].astype(np.float32))["prob"], rtol=1e-5
    )
    # At its own size all crops are the image or its mirror.
    mirrored = net.predict([image[:, ::-1]], oversample=False)
    np.testing.assert_allclose(net.predict([image]), (found + mirrored) / 2, rtol=1e-5)


def test_images_of_different_sizes(tmp_path: Path) -> None:
    net = Classifier(*write_model(tmp_path), image_dims=(9, 10))
    random = np.random.default_rng(2)
    images = [random.random(shape) for shape in ((20, 9, 3), (8, 31, 3), (9, 10, 3), (5, 5, 3))]
    together = net.predict(images)
    assert together.shape == (4, CLASSES)
    np.testing.assert_allclose(net.predict(images[2:3])[0], together[2], rtol=1e-5)


def test_mistakes(tmp_path: Path) -> None:
    files = write_model(tmp_path)
    with pytest.raises(DataError, match="inputs is empty"):
        Classifier(*files).predict([])
    with pytest.raises(DataError, match=r"smaller than the net's input of \(8, 8\)"):
        Classifier(*files, image_dims=(7, 9)).predict([np.zeros((7, 9, 3))])
    with pytest.raises(ValueError, match="the mean has 2, input 'data' has 3 channels"):
        Classifier(*files, mean=np.zeros(2))
