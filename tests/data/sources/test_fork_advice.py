"""Data layers of forks that find unfit content; changed as the message says, they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.codec.images import encode_image
from caffecompat.errors import CaffeError
from tests.data.databases import datum, write_records
from tests.layers.forks.rcnn.region_sources import listed, picture
from tests.layers.forks.segmentation.dense_records import picture as labelled
from tests.layers.forks.segmentation.dense_records import record
from tests.layers.forks.segmentation.documents import database, document, numbered
from tests.layers.refusals.advice import run_alone


def check(kind: str, tops: int, bad: str, words: str, *remedies: str) -> None:
    with pytest.raises(CaffeError) as caught:
        run_alone(kind, bad, [], tops)
    assert words in str(caught.value)
    for good in remedies:
        for top in run_alone(kind, good, [], tops):
            assert np.isfinite(top).all()


def frames(folder: Path, sizes: list[tuple[int, int]]) -> str:
    """A list of one clip."""
    folder.mkdir()
    for number, (height, width) in enumerate(sizes, 1):
        content = encode_image(picture(number, height, width), "png")
        (folder / f"image_{number:04d}.jpg").write_bytes(content)
    path = folder.parent / f"{folder.name}.txt"
    path.write_text(f"{folder} {len(sizes)} 0\n")
    return str(path)


def clips(source: str, own: str, transform: str = "") -> str:
    return (
        f"video_data_param {{ source: '{source}' batch_size: 1 modality: RGB {own} }} "
        f"transform_param {{ {transform} }}"
    )


def test_clips(tmp_path: Path) -> None:
    source = frames(tmp_path / "clip", [(6, 8)] * 4)
    check(
        "VideoData",
        2,
        clips(source, "", "crop_size: 7"),
        "smaller than crop_size 7; give new_height and new_width, or use a smaller crop_size",
        clips(source, "new_height: 8 new_width: 8", "crop_size: 7"),
        clips(source, "", "crop_size: 6"),
    )
    check(
        "VideoData",
        2,
        clips(source, "", "mean_value: 1 mean_value: 2"),
        "has 2 mean_value; give one, one per channel, or a number that divides the channels",
        clips(source, "", "mean_value: 1"),
        clips(source, "", "mean_value: 1 mean_value: 2 mean_value: 3"),
    )


def test_frames_of_several_sizes(tmp_path: Path) -> None:
    source = frames(tmp_path / "clip", [(6, 8), (7, 8), (6, 9), (9, 9)])
    check(
        "VideoData",
        2,
        clips(source, "num_segments: 4"),
        "; give new_height and new_width",
        clips(source, "num_segments: 4 new_height: 5 new_width: 5"),
    )
    check(
        "VideoData",
        2,
        clips(source, "new_length: 4"),
        "its frames have several sizes; give new_height and new_width",
        clips(source, "new_length: 4 new_height: 5 new_width: 5"),
    )


def test_documents(tmp_path: Path) -> None:
    path = database(tmp_path, [document(pixels) for pixels in numbered(4)])
    text = f"doc_data_param {{ sources: '{path}' batch_size: 2 backend: LMDB }} "
    linear = "image_transform_param {{ params {{ linear_params {{ {} }} }} }}"
    check(
        "DocData",
        1,
        text + linear.format("shift: 1 shift: 2"),
        "linear_params has 2 shift; give one, or one per channel",
        text + linear.format("shift: 1"),
    )


def test_blocks_of_a_text(tmp_path: Path) -> None:
    def text(size: int) -> str:
        return (
            f"tokenized_data_param {{ source: '{tmp_path}/input.txt' batch_size: 2 "
            f"block_size: {size} }}"
        )

    (tmp_path / "input.txt").write_text("abcdef")
    words = "too few for blocks of 5; it needs 7, or a smaller block_size"
    check("TokenizedData", 3, text(5), words, text(4))
    (tmp_path / "input.txt").write_text("abcdefg")
    run_alone("TokenizedData", text(5), [], 3)


def test_maps_of_labels(tmp_path: Path) -> None:
    for name in ("i.png", "l.png"):
        (tmp_path / name).write_bytes(encode_image(picture(0, 6, 8), "png"))
    (tmp_path / "maps").write_text("i.png l.png\n")

    def text(own: str, transform: str = "") -> str:
        return (
            f"dense_image_data_param {{ source: '{tmp_path}/maps' root_folder: '{tmp_path}/' "
            f"batch_size: 1 {own} }} transform_param {{ {transform} }}"
        )

    crop = "crop_height: 7 crop_width: 7"
    check(
        "DenseImageData",
        2,
        text(crop),
        "smaller than the crop 7x7; give new_height and new_width, or a smaller crop",
        text(f"{crop} new_height: 9 new_width: 9"),
        text("crop_height: 6 crop_width: 6"),
    )
    check(
        "DenseImageData",
        2,
        text("", "mean_value: 1 mean_value: 2"),
        "has 2 mean_value; give one, or one per channel (in B, G, R order)",
        text("", "mean_value: 1"),
        text("", "mean_value: 1 mean_value: 2 mean_value: 3"),
    )


def test_documents_that_are_missing(tmp_path: Path) -> None:
    text = "doc_data_param {{ sources: '{}' batch_size: 2 backend: LMDB }}"
    check(
        "DocData",
        1,
        text.format(write_records(tmp_path / "empty", [])),
        "the database has no records; put images into it",
        text.format(database(tmp_path, [document(pixels) for pixels in numbered(4)])),
    )


def test_images_that_are_missing(tmp_path: Path) -> None:
    text = "data_param {{ source: '{}' batch_size: 2 backend: LMDB }}"
    check(
        "Data",
        1,
        text.format(write_records(tmp_path / "empty", [])),
        "the database has no records; put images into it",
        text.format(write_records(tmp_path / "full", [datum(np.zeros((3, 4, 5), np.uint8))])),
    )


def test_labels_of_pixels_that_are_missing(tmp_path: Path) -> None:
    text = "data_param {{ source: '{}' batch_size: 2 backend: LMDB }}"
    values = [record(*labelled(k, 4, 6)) for k in range(2)]
    check(
        "ImageSegUniformSizeData",
        2,
        text.format(write_records(tmp_path / "empty", [])),
        "the database has no records; put images into it",
        text.format(write_records(tmp_path / "full", values)),
    )


def test_test_images_of_several_sizes(tmp_path: Path) -> None:
    path = listed(tmp_path, [(picture(0, 40, 60), [], []), (picture(1, 64, 48), [], [])])

    def text(own: str) -> str:
        return f"eval_data_param {{ source: '{path}' root_folder: '{tmp_path}/' {own} }}"

    check(
        "EvalData",
        2,
        text("batch_size: 2"),
        "batch_size is 2, but images of several sizes need a batch of 1; or give resize_width and "
        "resize_height",
        text("batch_size: 1"),
        text("batch_size: 2 resize_width: 64 resize_height: 32"),
    )


def test_a_field_of_data_layers(tmp_path: Path) -> None:
    source = frames(tmp_path / "clip", [(6, 8)] * 4)
    check(
        "VideoData",
        2,
        clips(source, "", "colour_shift_std: 0.1"),
        "does not support colour_shift_std; remove it",
        clips(source, ""),
    )
