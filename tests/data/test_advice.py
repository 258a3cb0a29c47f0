"""An AnnotatedData layer that is refused, changed as the message says, gives finite batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.image_sizes import read_image_sizes
from caffecompat.data.label_map import read_label_map
from caffecompat.errors import CaffeError
from caffecompat.weights import write_mean
from tests.data.annotated_databases import images, net, tops, write

EXPAND = "expand_param { prob: 1 max_expand_ratio: %g } "
DISTORT = "distort_param { brightness_prob: 1 brightness_delta: 3 } "
RESIZE = "resize_param { prob: 1 resize_mode: %s height: %d width: %d %s } "
NOISE = "noise_param { prob: 1 %s } "
DOTS = "saltpepper: true saltpepper_param { fraction: 0.5 value: 1 %s }"
SAMPLER = "annotated_data_param { batch_sampler { max_trials: 5 sampler { %s } } }"


def run(source: str, transform: str, more: str = "") -> None:
    data, _ = tops(net(source, batch=3, transform=transform, more=more, phase="train"))
    assert np.isfinite(data).all()


CASES = [
    ("crop_h: 10", "set both, or neither", ["crop_h: 10 crop_w: 12", ""]),
    (
        "crop_h: 25 crop_w: 12",
        "use a resize_param, or a smaller crop",
        [RESIZE % ("WARP", 30, 40, "") + "crop_h: 25 crop_w: 12", "crop_h: 20 crop_w: 12"],
    ),
    (
        EXPAND % 1 + "mean_file: 'mean.binaryproto'",
        "which mean_file does not fit; use mean_value",
        [EXPAND % 1 + "mean_value: 1"],
    ),
    (
        RESIZE % ("WARP", 10, 0, ""),
        "height is 10 and width is 0; give the size of an image in pixels",
        [RESIZE % ("WARP", 10, 12, "")],
    ),
    (
        RESIZE % ("FIT_LARGE_SIZE_AND_PAD", 20, 20, "pad_value: 1 pad_value: 2"),
        "has 2 pad_value; give one, or one for each channel",
        [
            RESIZE % ("FIT_LARGE_SIZE_AND_PAD", 20, 20, "pad_value: 1"),
            RESIZE % ("FIT_LARGE_SIZE_AND_PAD", 20, 20, "pad_value: 1 pad_value: 2 pad_value: 3"),
        ],
    ),
    (
        NOISE % "convert_to_lab: true",
        "is not supported by any Caffe; remove it",
        [NOISE % "", NOISE % "inverse: true"],
    ),
    (
        NOISE % (DOTS % "value: 2"),
        "has 2 values; give one, or one for each channel",
        [NOISE % (DOTS % ""), NOISE % (DOTS % "value: 2 value: 3")],
    ),
    (
        EXPAND % 100000 + RESIZE % ("WARP", 10, 12, ""),
        "use a smaller max_expand_ratio",
        [EXPAND % 2 + RESIZE % ("WARP", 10, 12, "")],
    ),
]


@pytest.mark.parametrize(("bad", "words", "remedies"), CASES)
def test_transforms(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad: str,
    words: str,
    remedies: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mean(np.ones((3, 20, 30), np.float32), "mean.binaryproto")
    source = write(tmp_path, images())
    with pytest.raises(CaffeError) as caught:
        run(source, bad)
    assert words in str(caught.value)
    for good in remedies:
        run(source, good)


@pytest.mark.parametrize(
    ("bad", "words", "good"),
    [
        (
            "min_scale: 0.9 max_scale: 0.3",
            "give numbers above 0 up to 1, in this order",
            "min_scale: 0.3 max_scale: 0.9",
        ),
        (
            "min_scale: 0.3 max_scale: 2",
            "give numbers above 0 up to 1, in this order",
            "min_scale: 0.3 max_scale: 1",
        ),
        (
            "min_aspect_ratio: 2 max_aspect_ratio: 0.5",
            "give positive numbers, in this order",
            "min_aspect_ratio: 0.5 max_aspect_ratio: 2",
        ),
    ],
)
def test_samplers(tmp_path: Path, bad: str, words: str, good: str) -> None:
    source = write(tmp_path, images())
    resized = RESIZE % ("WARP", 10, 12, "")
    with pytest.raises(CaffeError) as caught:
        run(source, resized, SAMPLER % bad)
    assert words in str(caught.value)
    run(source, resized, SAMPLER % good)


def test_colours_of_gray_images(tmp_path: Path) -> None:
    source = write(tmp_path, [(pixels[:, :, :1], rows) for pixels, rows in images()])
    with pytest.raises(CaffeError) as caught:
        run(source, DISTORT)
    assert "distort_param needs 3; set force_color, or remove distort_param" in str(caught.value)
    run(source, DISTORT + "force_color: true")
    run(source, "")


def test_a_database_without_records(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    with pytest.raises(CaffeError) as caught:
        run(write(tmp_path, []), "")
    assert "the database has no records; put images into it" in str(caught.value)
    run(write(tmp_path / "full", images()), "")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("name: 'cat' label: 1", "name: 'cat' label: 2", "two items have the name 'cat'"),
        ("name: 'cat' label: 1", "name: 'dog' label: 1", "two items have the label 1"),
    ],
)
def test_label_maps(tmp_path: Path, first: str, second: str, words: str) -> None:
    path = tmp_path / "labels.prototxt"
    path.write_text(f"item {{ {first} }} item {{ {second} }}")
    with pytest.raises(CaffeError) as caught:
        read_label_map(str(path))
    assert f"{words}; give each its own" in str(caught.value)
    path.write_text("item { name: 'cat' label: 1 } item { name: 'dog' label: 2 }")
    assert read_label_map(str(path)).names == {1: "cat", 2: "dog"}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("\n", "there is no line in it, expected: name height width"),
        ("a 0 4\n", "expected: name height width, with sizes from 1 to"),
    ],
)
def test_image_sizes(tmp_path: Path, bad: str, words: str) -> None:
    path = tmp_path / "sizes.txt"
    path.write_text(bad)
    with pytest.raises(CaffeError) as caught:
        read_image_sizes(str(path))
    assert words in str(caught.value)
    path.write_text("a 3 4\n")
    assert len(read_image_sizes(str(path))) == 1
