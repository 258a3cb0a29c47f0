"""MobileNet-YOLO's AnnotatedData: lists of objects, sizes for ten batches, jitter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.sample_choices import SampleChoices
from caffecompat.data.sources.objects.yolo_annotated import Jitter
from caffecompat.errors import CaffeError, DataError, FileProblem, LayerError
from tests.data.annotated_databases import images, net, parsed, tops, write

LISTS = "annotated_data_param { yolo_data_type: 1 yolo_data_jitter: 0 %s }"
SIZES = " ".join(
    f"resize_param {{ prob: {prob} height: {side} width: {side + 4} }}"
    for prob, side in ((0.25, 8), (0.75, 12))
)


def test_lists_of_objects(tmp_path: Path) -> None:
    built = net(write(tmp_path, images()), more=LISTS % "")
    assert built.blobs["label"].shape == (3, 1, 300, 5)
    lists = tops(built)[1]
    expected = np.zeros((3, 300, 5), np.float32)
    expected[0, :2] = [[1, 0.3, 0.4, 0.4, 0.4], [1, 0.75, 0.75, 0.5, 0.5]]
    expected[2, 0] = [0, 0.5, 0.5, 1, 1]
    np.testing.assert_allclose(lists[:, 0], expected, atol=1e-6)
    easy = tops(net(write(tmp_path / "b", images()), more=LISTS % "train_diffcult: false"))[1]
    expected[0, 1] = 0
    np.testing.assert_allclose(easy[:, 0], expected, atol=1e-6)


def test_rows_as_in_ssd_without_yolo_data_type(tmp_path: Path) -> None:
    more = "annotated_data_param { yolo_data_jitter: 0 }"
    assert tops(net(write(tmp_path, images()), more=more))[1].shape == (1, 1, 3, 8)


def test_the_size_changes_with_every_tenth_batch(tmp_path: Path) -> None:
    built = net(write(tmp_path, images()), batch=2, more=LISTS % "", transform=SIZES)
    passes = [built.run(index).outputs for index in range(0, 400, 5)]
    built.close()
    shapes = [tuple(one["data"].shape) for one in passes]
    assert shapes[::2] == shapes[1::2]
    counts = Counter(shapes[::2])
    assert set(counts) == {(2, 3, 8, 12), (2, 3, 12, 16)}
    assert counts[2, 3, 8, 12] < counts[2, 3, 12, 16]
    # Boxes are relative to the image.
    assert {tuple(one["label"][:, 0, 0].ravel().tolist()) for one in passes[::6]} == {
        tuple(passes[0]["label"][:, 0, 0].ravel().tolist())
    }


def test_more_than_300_objects(tmp_path: Path) -> None:
    pixels = images()[0][0]
    rows = [(1, 0, (0.1, 0.1, 0.2 + i / 1000, 0.5), False) for i in range(310)]
    lists = tops(net(write(tmp_path, [(pixels, rows)]), batch=1, more=LISTS % ""))[1]
    np.testing.assert_allclose(lists[0, 0, :, 3], 0.1 + np.arange(300) / 1000, atol=1e-6)


@pytest.mark.parametrize("square", [True, False])
def test_jitter(square: bool) -> None:
    jitter = Jitter(0.4, square)
    boxes = np.zeros((0, 4), np.float32)
    drawn = [jitter.draw(boxes, SampleChoices(3, i)) for i in range(1000)]
    crops = np.array([crop for crop in drawn if crop is not None])
    assert 750 < len(crops) < 850
    assert (crops >= 0).all()
    assert (crops <= 1 + 1e-6).all()
    sides = crops[:, 2:] - crops[:, :2]
    assert 0.599 < sides.min() < 0.62
    assert sides.max() > 0.98
    assert np.allclose(sides[:, 0], sides[:, 1]) == square
    half = (sides.min(1) > 0.8).mean()
    assert (0.55 if square else 0.35) < half < (0.7 if square else 0.55)


def test_images_are_jittered_without_samplers(tmp_path: Path) -> None:
    source = write(tmp_path, images())
    more = "annotated_data_param { yolo_data_type: 1 }"
    transform = "resize_param { height: 8 width: 12 } emit_constraint { emit_type: CENTER }"
    lists = [tops(net(source, more=more, transform=transform), i)[1] for i in range(20)]
    assert len({one.tobytes() for one in lists}) > 10


def test_maps_have_a_shape_only(tmp_path: Path) -> None:
    text = """
        layer { name: "data" type: "AnnotatedData" top: "data" top: "label" top: "maps"
          transform_param { resize_param { prob: 0.5 height: 32 width: 48 }
                            resize_param { prob: 0.5 height: 64 width: 64 } }
          data_param { source: "%s" batch_size: 2 backend: LMDB }
          annotated_data_param { yolo_data_type: 1 %s } }"""

    def built(source: str, more: str, **options: object) -> object:
        from caffecompat import Net

        return Net(parsed("NetParameter", text % (source, more)), **options)  # type: ignore[arg-type]

    made = built("none", "single_class: true", shapes_only=True)
    assert made.blobs["maps"].shape == (2, 1, 4, 6)  # type: ignore[attr-defined]
    assert made.blobs["data"].shape == (2, 3, 32, 48)  # type: ignore[attr-defined]
    for more, size in (
        ("", "4x6"),
        ("seg_scales: 0", "32x48"),
        ("seg_resize_height: 7 seg_resize_width: 9", "7x9"),
    ):
        with pytest.raises(FileProblem, match=f"state it with --shape maps=2xCLASSESx{size}"):
            built("none", f"single_class: false {more}", shapes_only=True)
    stated = {"maps": (2, 5, 4, 6)}
    made = built("none", "single_class: false", shapes_only=True, shapes=stated)
    assert made.blobs["maps"].shape == (2, 5, 4, 6)  # type: ignore[attr-defined]
    with pytest.raises(LayerError, match=r"segmentation maps .* cannot be read"):
        built(write(tmp_path, images()), "single_class: true")


@pytest.mark.parametrize(
    ("more", "transform", "words"),
    [
        (LISTS % "difficult_label_warmup: true", "", "difficult_label_warmup is not supported"),
        (LISTS % "", SIZES.replace("0.75", "0.5"), "add up to 0.75, expected 1"),
        (
            LISTS % "",
            SIZES.replace("prob: 0.75", "prob: 0.75 resize_mode: FIT_SMALL_SIZE"),
            "SMALL",
        ),
        (LISTS.replace("jitter: 0", "jitter: 1") % "", "", "yolo_data_jitter is 1"),
    ],
)
def test_refused(more: str, transform: str, words: str, tmp_path: Path) -> None:
    with pytest.raises((DataError, CaffeError), match=words):
        net(write(tmp_path, images()), more=more, transform=transform)
