"""ImageSegUniformSizeData: a database of images with a label for each pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.shard import Shard
from caffecompat.errors import CaffeError, DataError, LayerError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from tests.data.databases import datum, write_records
from tests.layers.forks.segmentation.dense_records import picture, record
from tests.layers.messages import message

pytest.importorskip("cv2")


def source(path: str, transform: str = "", tops: int = 2, **options: Any) -> Source:
    phase = options.pop("phase", "TRAIN")
    batch = options.pop("batch", 2)
    given = BuildOptions(**{"seed": 3, "workers": 1, **options})
    layer = catalogue.find("ImageSegUniformSizeData")(Context(phase, "layer 'one'", given))
    assert isinstance(layer, Source)
    definition = message(
        "ImageSegUniformSizeData",
        f"data_param {{ source: '{path}' batch_size: {batch} backend: LMDB }} "
        f"transform_param {{ {transform} }}",
        tops,
    )
    layer.setup(definition, [])
    return layer


def read(layer: Source, index: int = 0) -> list[np.ndarray]:
    found = layer.read(index)
    assert found is not None
    return [np.asarray(top) for top in found]


def test_whole_images(tmp_path: Path) -> None:
    images = [picture(k, *((6, 9) if k < 2 else (11, 4))) for k in range(4)]
    values = [record(*image, packed=k != 1) for k, image in enumerate(images)]
    layer = source(write_records(tmp_path / "db", values), tops=3, phase="TEST")
    for index, size in enumerate([(6, 9), (11, 4), (6, 9)]):
        data, labels, found = read(layer, index)
        assert data.shape == (2, 3, *size)
        assert labels.shape == (2, 1, *size)
        assert found.tolist() == list(size)
        for n in range(2):
            pixels, wanted = images[(2 * index + n) % 4]
            assert np.array_equal(data[n], pixels.transpose(2, 0, 1))
            assert np.array_equal(labels[n, 0], wanted)


def test_the_middle_in_test(tmp_path: Path) -> None:
    pixels, labels = picture(3, 9, 12)
    path = write_records(tmp_path / "db", [record(pixels, labels)])
    layer = source(
        path,
        "crop_height: 4 crop_width: 7 mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5",
        phase="TEST",
        batch=1,
    )
    data, found = read(layer)
    cut = pixels[2:6, 2:9].transpose(2, 0, 1).astype(np.float32)
    np.testing.assert_allclose(data[0], (cut - np.array([1, 2, 3]).reshape(3, 1, 1)) / 2)
    assert np.array_equal(found[0, 0], labels[2:6, 2:9])


def test_random_crops_and_flips_keep_labels_with_pixels(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [record(*picture(0, 9, 12))])
    layer = source(path, "crop_size: 5 mirror: true", batch=40)
    data, labels = read(layer)
    assert np.array_equal(labels[:, 0], data[:, 1] * 20 + data[:, 2])
    flipped = data[:, 2, 0, 0] > data[:, 2, 0, 1]
    assert 8 < flipped.sum() < 32
    places = {(int(d[1].min()), int(d[2].min())) for d in data}
    assert len(places) > 12
    assert max(place[0] for place in places) == 4
    assert max(place[1] for place in places) == 7


def test_samples_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [record(*picture(k, 9, 12)) for k in range(3)])
    text = "crop_size: 5 mirror: true"
    whole = [read(source(path, text, batch=4), k) for k in range(3)]
    again = source(path, text, batch=4)
    for k in (2, 0, 1):
        for one, other in zip(read(again, k), whole[k], strict=True):
            assert np.array_equal(one, other)
    parts = [read(source(path, text, batch=4, shard=Shard(rank, 2))) for rank in (0, 1)]
    for top in (0, 1):
        joined = np.concatenate([part[top] for part in parts])
        assert np.array_equal(joined, whole[0][top])
    another = read(source(path, text, batch=4, seed=4))
    assert not np.array_equal(another[0], whole[0][0])


def test_large_labels_and_spare_ones(tmp_path: Path) -> None:
    pixels, _ = picture(0, 2, 2)
    labels = np.array([0, 255, 70000, 127, 9, 9])
    layer = source(write_records(tmp_path / "db", [record(pixels, labels)]), batch=1)
    assert read(layer)[1].ravel().tolist() == [0, 255, 70000, 127]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (record(picture(0, 3, 4)[0], np.zeros(11)), "11 labels for an image of 3x4"),
        (datum(np.zeros((3, 2, 2))), "its image is not encoded"),
        (b"\x42\x05\x01", "are not a Datum"),
    ],
)
def test_wrong_records(tmp_path: Path, value: bytes, sentence: str) -> None:
    path = write_records(tmp_path / "db", [value])
    with pytest.raises(DataError, match=sentence):
        read(source(path))


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        ("crop_size: 4 crop_height: 4 crop_width: 4", "the crop is 4, 4x4"),
        ("crop_height: 4", "the crop is 0, 4x0"),
        ("mean_file: 'm'", "no mean_file"),
    ],
)
def test_wrong_settings(tmp_path: Path, transform: str, sentence: str) -> None:
    path = write_records(tmp_path / "db", [record(*picture(0, 9, 12))])
    with pytest.raises(LayerError, match=sentence):
        source(path, transform)


def test_no_records_and_no_database(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no records"):
        source(write_records(tmp_path / "db", []))
    with pytest.raises(CaffeError, match="none"):
        source(str(tmp_path / "none"))


def test_shapes_from_the_definition(tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    layer = source(none, "crop_height: 4 crop_width: 7", tops=3, shapes_only=True)
    assert [tuple(shape) for shape in layer.shapes] == [(2, 3, 4, 7), (2, 1, 4, 7), (2,)]
    with pytest.raises(CaffeError, match="there is no crop"):
        source(none, shapes_only=True)
