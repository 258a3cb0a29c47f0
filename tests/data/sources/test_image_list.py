"""Samples of image lists and folder trees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.data.loader.open_readers import open_image_reader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.sources.image_lists.image_list import (
    Entry,
    read_class_names,
    read_list,
    read_names,
    read_tree,
)
from caffecompat.data.sources.image_lists.image_samples import ImageSamples, ListSettings
from caffecompat.errors import CaffeError, DataError, FileProblem
from tests.layers.messages import message
from tests.sentences import assert_one_sentence


def write_image(path: Path, value: int, shape: tuple[int, ...] = (5, 7, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(shape, value, np.uint8))


@pytest.fixture
def listed(tmp_path: Path) -> str:
    """Eleven images whose pixels and labels are their number."""
    for number in range(11):
        write_image(tmp_path / f"{number}.png", number)
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{number}.png {number}\n" for number in range(11)))
    return str(path)


def labels(listed: str, batches: Sequence[int], seed: int = 1, **options: Any) -> list[list[float]]:
    more = " ".join(f"{name}: {str(value).lower()}" for name, value in options.items())
    root = listed.removesuffix("list.txt")
    text = f"image_data_param {{ source: '{listed}' root_folder: '{root}' batch_size: 4 {more} }}"
    with open_image_reader(message("ImageData", text, 2), "TRAIN", ReadOptions(seed, 2)) as reader:
        found = [reader.batch(index) for index in batches]
    assert all(np.array_equal(b.data[:, 1, 2, 3], b.labels) for b in found)
    return [batch.labels.tolist() for batch in found]


def test_images_follow_the_list_and_start_again(listed: str) -> None:
    assert labels(listed, range(3)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0]]


def test_shuffling_visits_every_image_once_per_pass_in_a_new_order(listed: str) -> None:
    run = [label for batch in labels(listed, range(11), shuffle=True) for label in batch]
    passes = [run[start : start + 11] for start in range(0, 44, 11)]
    assert all(sorted(part) == list(range(11)) for part in passes)
    assert len({tuple(part) for part in passes}) == 4


def test_shuffling_is_a_pure_function_of_seed_and_place(listed: str) -> None:
    in_order = labels(listed, range(6), shuffle=True)
    assert labels(listed, [5, 2, 0], shuffle=True) == [in_order[i] for i in (5, 2, 0)]
    assert labels(listed, range(6), seed=2, shuffle=True) != in_order


def test_rand_skip_leaves_out_some_at_the_start(listed: str) -> None:
    first = Counter(labels(listed, [0], seed=seed, rand_skip=5)[0][0] for seed in range(60))
    assert set(first) == {0, 1, 2, 3, 4}
    start = labels(listed, [0, 1, 2], seed=7, rand_skip=5)
    flat = [label for batch in start for label in batch]
    assert flat == [(flat[0] + i) % 11 for i in range(12)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_size: 4 new_width: 3", "new_height is 0 and new_width is 3"),
        ("batch_size: 0", "batch_size is 0"),
        ("batch_size: 1 root_folder: 'nosuch/'", "line 1 .image 'nosuch/0.png'.: it cannot be rea"),
    ],
)
def test_bad_settings_are_one_sentence(listed: str, text: str, words: str) -> None:
    definition = message("ImageData", f"image_data_param {{ source: '{listed}' {text} }}", 2)
    with (
        pytest.raises(CaffeError, match=words) as caught,
        open_image_reader(definition, "TEST") as reader,
    ):
        reader.batch(0)
    assert_one_sentence(str(caught.value))


def test_a_list_shorter_than_what_is_skipped() -> None:
    with pytest.raises(DataError, match="leaves out 3 images, but the list has 3"):
        ImageSamples("list.txt", [Entry(b"a", 0)] * 3, ListSettings(skip=3))
    with pytest.raises(DataError, match="the list is empty"):
        ImageSamples("list.txt", [])


def test_a_file_that_is_no_image_is_named(listed: str) -> None:
    Path(listed).with_name("2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"line 3 \(image '.*2\.png'\): it is not an image"):
        labels(listed, [0])


def test_a_tree_is_classes_sorted_by_name(tmp_path: Path) -> None:
    for name in ("n02/b.JPEG", "n02/a.jpg", "n01/deep er/c.png", ".git/x.png"):
        write_image(tmp_path / name.replace("JPEG", "jpeg"), 1)
    (tmp_path / "n02" / "b.jpeg").rename(tmp_path / "n02" / "b.JPEG")
    (tmp_path / "n10").mkdir()
    (tmp_path / "n01" / "notes.txt").touch()
    write_image(tmp_path / "outside.png", 1)
    entries, classes = read_tree(str(tmp_path))
    assert classes == ["n01", "n02", "n10"]
    assert [(entry.name, entry.label) for entry in entries] == [
        (b"n01/deep er/c.png", 0),
        (b"n02/a.jpg", 1),
        (b"n02/b.JPEG", 1),
    ]


def test_a_tree_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sub-folders"):
        read_tree(str(tmp_path))
    with pytest.raises(FileProblem, match="cannot be read"):
        read_tree(str(tmp_path / "nosuch"))


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.png 3\r\nb.png 4\r\n", encoding="utf-8-sig", newline="")
    assert read_list(str(path)) == [Entry(b"a.png", 3), Entry(b"b.png", 4)]
    path.write_text("a.png\nb.png\n", encoding="utf-8-sig")
    assert read_names(str(path)) == [Entry(b"a.png", 0), Entry(b"b.png", 0)]
    assert read_class_names(str(path)) == ["a.png", "b.png"]
