"""Image sets of PASCAL VOC: classes of images, persons with their boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.errors import CaffeError
from caffecompat.evaluate.images.labelled_images import PixelBox
from caffecompat.evaluate.images.voc_images import VocImages
from tests.evaluate.voc import BOXES, HEIGHT, WIDTH, annotated, write_voc


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "VOC2012"
    write_voc(folder, {"Main/train": ["2010_2", "2010_0"], "Action/train": ["2010_1", "2010_3"]})
    return folder


def test_a_set_of_images(voc: Path) -> None:
    (voc / "ImageSets/Main/jumping_train.txt").write_text("2010_2  0\n2010_0 -1\n")
    images = VocImages(str(voc), "Main/train")
    assert images.class_names == ["jumping", "reading"]
    assert len(images) == 2
    assert not images.has_boxes
    found = [images.read(index) for index in range(2)]
    assert [image.name for image in found] == ["2010_2", "2010_0"]
    assert [image.flags for image in found] == [(0, 1), (-1, -1)]
    assert found[0].box is None
    expected = cv2.imread(str(voc / "JPEGImages/2010_2.jpg"))
    assert expected is not None
    assert np.array_equal(found[0].pixels, expected)


def test_persons(voc: Path) -> None:
    images = VocImages(str(voc), "Action/train")
    assert images.has_boxes
    assert len(images) == 4
    found = [images.read(index) for index in range(4)]
    assert [image.name for image in found] == ["2010_1 1", "2010_1 2", "2010_3 1", "2010_3 2"]
    assert [image.flags for image in found] == [(-1, 1), (1, -1), (-1, 1), (1, -1)]
    left, top, right, bottom = BOXES[1]
    assert found[1].box == PixelBox(top - 1, left - 1, bottom, right)
    assert found[1].in_box().shape == (bottom - top + 1, right - left + 1, 3)
    assert np.array_equal(found[1].in_box(), found[1].pixels[top - 1 : bottom, left - 1 : right])


@pytest.mark.parametrize(
    ("image_set", "file", "text", "words"),
    [
        ("train", "", "", "--voc train: expected a task and a set, e.g. Main/trainval"),
        ("Main/", "", "", "--voc Main/: expected a task"),
        ("Layout/train", "", "", "the folder cannot be read"),
        ("Main/test", "", "", "there are no files <class>_test.txt"),
        ("Main/train", "ImageSets/Main/reading_train.txt", "2010_2 1\n", "its 1 images are not"),
        ("Main/train", "ImageSets/Main/jumping_train.txt", "2010_2 2\n", "line 1 is '2010_2 2'"),
        ("Main/train", "ImageSets/Main/jumping_train.txt", "2010_2 1 1\n", "expected: image flag"),
        ("Action/train", "ImageSets/Action/jumping_train.txt", "2010_1 0 1\n", "image object flag"),
        ("Action/train", "ImageSets/Action/jumping_train.txt", "2010_1 1\n", "image object flag"),
    ],
)
def test_sets_that_are_wrong(image_set: str, file: str, text: str, words: str, voc: Path) -> None:
    if file:
        (voc / file).write_text(text)
    with pytest.raises(CaffeError, match=words):
        VocImages(str(voc), image_set)


def test_an_empty_set(voc: Path) -> None:
    for name in ("jumping", "reading"):
        (voc / f"ImageSets/Main/{name}_train.txt").write_text("\n")
    with pytest.raises(CaffeError, match="there are no images"):
        VocImages(str(voc), "Main/train")


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        (annotated(BOXES[0]), "it has 1 objects, the set names 2"),
        ("<object/><object/>", "object 2 has no bndbox"),
        (annotated(BOXES[0]) + annotated((1, 1, WIDTH + 1, 2)), "ends at pixel 31, 2"),
        (annotated(BOXES[0]) + annotated((1, 1, 2, HEIGHT + 1)), "30 wide and 21 high"),
        (annotated(BOXES[0]) + annotated((0, 1, 2, 3)), "xmin of a box is '0'"),
    ],
)
def test_annotations_that_are_wrong(objects: str, words: str, voc: Path) -> None:
    (voc / "Annotations/2010_1.xml").write_text(f"<annotation>{objects}</annotation>")
    with pytest.raises(CaffeError, match=f"image '2010_1': .*{words}"):
        VocImages(str(voc), "Action/train").read(1)


def test_images_that_cannot_be_read(voc: Path) -> None:
    (voc / "JPEGImages/2010_2.jpg").write_bytes(b"no image")
    (voc / "JPEGImages/2010_0.jpg").unlink()
    images = VocImages(str(voc), "Main/train")
    for index, name in enumerate(("2010_2", "2010_0")):
        with pytest.raises(CaffeError, match=rf"train.txt: image '{name}': "):
            images.read(index)
