"""Descriptors of images against the plain net, applied window by window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat.errors import BlobError, DataError
from caffecompat.evaluate.features.feature_file import normalized
from caffecompat.evaluate.features.image_features import (
    FeatureExtraction,
    FeatureNet,
    FeatureOptions,
    Part,
    penultimate_blob,
)
from caffecompat.evaluate.images.labelled_images import open_images
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.images.voc_images import VocImages
from caffecompat.net import Net
from tests.evaluate.small import CROP, PREPROCESSING, STRIDE, small_model, write_images
from tests.evaluate.voc import annotated, write_voc

PREPARATION = ImagePreparation(PREPROCESSING)


def test_the_blob_before_the_classifier() -> None:
    assert penultimate_blob(small_model()) == "fc6"
    assert FeatureNet(small_model()).length == 8
    assert FeatureNet(small_model(), "conv1").length == 5
    with pytest.raises(BlobError, match="no blob 'fc7'"):
        FeatureNet(small_model(), "fc7")


def windowed(image: np.ndarray) -> np.ndarray:
    """The mean of fc6, after its ReLU, over all windows of the net's input size."""
    model = small_model()
    net = Net(model.definition, model.weights)
    rows = range(0, image.shape[1] - CROP[0] + 1, STRIDE)
    columns = range(0, image.shape[2] - CROP[1] + 1, STRIDE)
    windows = [image[:, r : r + CROP[0], c : c + CROP[1]] for r in rows for c in columns]
    return net.forward(data=np.stack(windows), end="relu6")["fc6"].mean(0)


@pytest.mark.parametrize("pooling", ["average", "max", "stack"])
def test_descriptors(pooling: str, tmp_path: Path) -> None:
    images = open_images(write_images(tmp_path, 3))
    options = FeatureOptions(scales=(15, 20), pooling=pooling)  # type: ignore[arg-type]
    extraction = FeatureExtraction(small_model(), PREPARATION, options)
    found = {image.name: row for image, row in extraction.run(images)}
    for index in range(3):
        pixels = images.read(index).pixels
        parts = []
        for scale in (15, 20):
            image = PREPARATION.at_scale(pixels, scale)
            parts.append(normalized((windowed(image) + windowed(image[:, :, ::-1])) / 2))
        ways = {"average": np.mean, "max": np.max, "stack": lambda rows, _: np.concatenate(rows)}
        whole = ways[pooling](parts, 0)  # type: ignore[operator]
        expected = whole / np.linalg.norm(whole)
        np.testing.assert_allclose(found[f"{index}.png"], expected, atol=1e-5)
    assert extraction.length == (16 if pooling == "stack" else 8)


def test_the_box_and_the_whole_image(tmp_path: Path) -> None:
    """Both descriptors are those of images on their own, stacked and divided by their norm."""
    write_voc(tmp_path / "VOC", {"Action/val": ["2010_0"]}, count=1)
    images = VocImages(str(tmp_path / "VOC"), "Action/val")
    found: dict[str, list[np.ndarray]] = {}
    parts_of_image: tuple[Part, ...] = ("image", "box", "both")
    for part in parts_of_image:
        options = FeatureOptions(scales=(15, 18), pooling="stack", part=part)
        extraction = FeatureExtraction(small_model(), PREPARATION, options)
        found[part] = [row for _, row in extraction.run(images)]
        assert {len(row) for row in found[part]} == {extraction.length}
    assert np.array_equal(found["image"][0], found["image"][1])
    for person in range(2):
        box = images.read(person).in_box()
        parts = []
        for scale in (15, 18):
            image = PREPARATION.at_scale(box, scale)
            parts.append(normalized((windowed(image) + windowed(image[:, :, ::-1])) / 2))
        expected = normalized(np.concatenate(parts))
        np.testing.assert_allclose(found["box"][person], expected, atol=1e-5)
        both = np.concatenate([found["image"][person], expected]) / np.sqrt(2)
        np.testing.assert_allclose(found["both"][person], both, atol=1e-5)


def test_images_without_boxes(tmp_path: Path) -> None:
    images = open_images(write_images(tmp_path, 1))
    extraction = FeatureExtraction(small_model(), PREPARATION, FeatureOptions(part="both"))
    with pytest.raises(DataError, match="have no boxes, which --part both needs"):
        next(extraction.run(images))


def test_a_box_that_cannot_be_rescaled(tmp_path: Path) -> None:
    folder = tmp_path / "VOC"
    write_voc(folder, {"Action/val": ["2010_0"]}, count=1)
    boxes = annotated((1, 2, 30, 2)) * 2
    (folder / "Annotations/2010_0.xml").write_text(f"<annotation>{boxes}</annotation>")
    options = FeatureOptions(scales=(2000,), part="box")
    extraction = FeatureExtraction(small_model(), PREPARATION, options)
    with pytest.raises(DataError, match="the box of image '2010_0 1': it is 1x30"):
        next(extraction.run(VocImages(str(folder), "Action/val")))


def test_without_norm_and_flip(tmp_path: Path) -> None:
    images = open_images(write_images(tmp_path, 1))
    options = FeatureOptions(scales=(14,), flip=False, normalize=False)
    extraction = FeatureExtraction(small_model(), PREPARATION, options)
    ((image, row),) = extraction.run(images)
    expected = windowed(PREPARATION.at_scale(image.pixels, 14))
    np.testing.assert_allclose(row, expected, atol=1e-5)


def test_zeros_have_no_norm() -> None:
    assert np.array_equal(normalized(np.zeros(3, np.float32)), np.zeros(3))


def test_a_scale_below_the_input() -> None:
    with pytest.raises(DataError, match="--scales: 10 is smaller than the 14x10"):
        FeatureExtraction(small_model(), PREPARATION, FeatureOptions(scales=(10,)))


def test_a_batch_of_images() -> None:
    net = FeatureNet(small_model())
    batch = torch.randn(3, 3, 20, 17, generator=torch.Generator().manual_seed(0))
    together = net(batch)
    assert together.shape == (3, 8)
    torch.testing.assert_close(together[1:2], net(batch[1:2]))
