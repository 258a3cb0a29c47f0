"""JPEGs decoded smaller where they are rescaled to half or less: nearly the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.images import decode_image, possible_reduction
from caffecompat.data.loader.batch import Batch
from caffecompat.data.loader.open import open_image_reader, open_reader
from caffecompat.data.loader.prefetch import BatchReader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.transforms.transform import Transform
from caffecompat.proto import schema
from tests.data.databases import encoded_datum, write_records
from tests.layers.messages import message

SEEDED = ReadOptions(1)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Structure of all sizes, the finer the weaker, as in a photograph; height x width x 3."""
    random = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64, 128):
        coarse = random.random((cells, cells, 3), np.float32) - 0.5
        spread = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        image += spread * (300 / cells**0.5)
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, quality: int = 90, orientation: int = 0) -> bytes:
    data = bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
    if not orientation:
        return data
    # One directory of one entry: tag 0x112, type SHORT, count 1.
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + bytes(6)
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def read(
    path: str, reduced: bool, side: int, upper: int = 0, phase: str = "TRAIN", **fields: Any
) -> list[Batch]:
    made = schema.new("TransformationParameter")
    made.img_rand_resize_lower, made.img_rand_resize_upper = side, upper or side
    for name, value in fields.items():
        setattr(made, name, value)
    transform = Transform(made, phase, reduced_decode=reduced)
    with BatchReader(open_database(path), transform, 1, ReadOptions(3, 2)) as opened:
        batches = [opened.batch(index) for index in range(opened.records)]
        assert [batch.data.shape for batch in batches] == [
            opened.shape(index) for index in range(opened.records)
        ]
    return batches


@pytest.mark.parametrize(
    ("size", "side", "reduction"),
    [
        ((512, 683), 256, 2),
        ((801, 600), 256, 2),
        ((1001, 1500), 200, 4),
        ((1500, 1001), 301, 2),
        ((1700, 1650), 200, 8),
        ((1700, 1650), 100, 8),
    ],
)
@pytest.mark.parametrize("quality", [75, 95])
def test_the_difference_is_within_the_stated_bound(
    size: tuple[int, int], side: int, reduction: int, quality: int, tmp_path: Path
) -> None:
    data = jpeg(photograph(*size), quality)
    assert possible_reduction(data, side) == (reduction, size)
    path = write_records(tmp_path / "db", [encoded_datum(data)])
    (whole,), (reduced,) = (read(path, flag, side) for flag in (False, True))
    assert whole.data.shape == reduced.data.shape
    difference = np.abs(whole.data - reduced.data)
    assert 0 < difference.mean() <= 3
    assert np.percentile(difference, 99) <= 12


def test_it_is_used_only_from_half_the_size_on_and_for_jpegs_only(tmp_path: Path) -> None:
    pixels = photograph(100, 130)
    png = bytes(cv2.imencode(".png", pixels)[1])
    assert possible_reduction(jpeg(pixels), 51) is None
    assert possible_reduction(jpeg(pixels), 50) == (2, (100, 130))
    assert possible_reduction(png, 10) is None
    path = write_records(tmp_path / "db", [encoded_datum(jpeg(pixels)), encoded_datum(png)])
    for side in (51, 100, 140):
        for whole, reduced in zip(read(path, False, side), read(path, True, side), strict=True):
            assert np.array_equal(whole.data, reduced.data)
    assert np.array_equal(read(path, False, 40)[1].data, read(path, True, 40)[1].data)
    assert not np.array_equal(read(path, False, 40)[0].data, read(path, True, 40)[0].data)


@pytest.mark.parametrize("colour", ["force_color", "force_gray", ""])
@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_colour_and_orientation_are_those_of_whole_decoding(
    channels: int, orientation: int, colour: str, tmp_path: Path
) -> None:
    pixels = photograph(97, 151)
    data = jpeg(pixels if channels == 3 else pixels[:, :, 0], 90, orientation)
    path = write_records(tmp_path / "db", [encoded_datum(data)])
    forced: dict[str, Any] = {colour: True} if colour else {}
    (whole,), (reduced,) = (read(path, flag, 30, **forced) for flag in (False, True))
    assert whole.data.shape == reduced.data.shape
    difference = np.abs(whole.data - reduced.data)
    # So small a picture is mostly noise; a wrong turn or colour would give 30 and more.
    assert 0 < difference.mean() <= 8
    turned = orientation in (6, 8) and bool(colour)
    assert whole.data.shape[2:] == ((47, 30) if turned else (30, 47))


def test_sizes_offsets_and_flips_do_not_change(tmp_path: Path) -> None:
    records = [encoded_datum(jpeg(photograph(300 + n, 401 - n, n)), n) for n in range(9)]
    path = write_records(tmp_path / "db", records)
    fields: dict[str, Any] = {"upper": 150, "crop_size": 81, "mirror": True}
    for whole, reduced in zip(
        read(path, False, 90, **fields), read(path, True, 90, **fields), strict=True
    ):
        difference = np.abs(whole.data - reduced.data)
        assert 0 < difference.mean() <= 3
        assert np.percentile(difference, 99) <= 12


def test_openers_take_the_option(tmp_path: Path) -> None:
    data = jpeg(photograph(200, 260))
    path = write_records(tmp_path / "db", [encoded_datum(data)])
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.jpg 0\n")
    scaled = "transform_param { img_rand_resize_lower: 60 img_rand_resize_upper: 60 crop_size: 50 }"
    text = f"data_param {{ source: '{path}' batch_size: 1 backend: LMDB }} {scaled}"
    listed = f"image_data_param {{ source: '{tmp_path}/list.txt' batch_size: 1 "
    found = []
    for flag in (False, True):
        with open_reader(message("Data", text, 2), "TEST", SEEDED, reduced_decode=flag) as opened:
            found.append(opened.batch(0).data)
        definition = message("ImageData", f"{listed} }} {scaled}", 2)
        with open_image_reader(definition, "TEST", SEEDED, reduced_decode=flag) as opened:
            assert np.array_equal(opened.batch(0).data, found[-1])
        # Resized first, so the decoder cannot know what will be needed.
        definition = message("ImageData", f"{listed} new_height: 99 new_width: 120 }} {scaled}", 2)
        with open_image_reader(definition, "TEST", SEEDED, reduced_decode=flag) as opened:
            found.append(opened.batch(0).data)
    assert not np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], found[3])


def test_what_is_no_image_is_none_at_any_reduction() -> None:
    data = jpeg(photograph(64, 80))
    assert decode_image(data[:4] + b"nonsense", "color", 2) is None
    decoded = decode_image(data, "unchanged", 4)
    assert decoded is not None
    assert decoded.shape == (16, 20, 3)
