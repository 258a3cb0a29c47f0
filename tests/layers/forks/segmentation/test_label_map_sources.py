"""Data layers with a label for each pixel, and HED's loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.data.codec.images import encode_image
from caffecompat.data.shard import Shard
from caffecompat.errors import CaffeError, DataError, FileProblem, LayerError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from caffecompat.proto.text.parser import parse_text
from tests.layers.messages import distinct, message, run

pytest.importorskip("cv2")

HEIGHT, WIDTH = 6, 8
OPTIONS = BuildOptions(seed=3, workers=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images in which each pixel tells its image, row and column; labels tell them too."""
    lines = []
    for number in range(5):
        rows, columns = np.indices((HEIGHT, WIDTH), np.uint8)
        image = np.stack([np.full_like(rows, number), rows, columns], 2)
        labels = (rows * WIDTH + columns + number).astype(np.uint8)
        for name, pixels in ((f"i{number}", image), (f"l{number}", labels)):
            (tmp_path / f"{name}.png").write_bytes(encode_image(pixels, "png"))
        lines.append(f"i{number}.png l{number}.png")
    (tmp_path / "list").write_text("\n".join(lines) + "\n")
    return tmp_path


def source(
    type_name: str,
    text: str,
    tops: int = 2,
    phase: str = "TRAIN",
    options: BuildOptions = OPTIONS,
) -> Source:
    layer = catalogue.find(type_name)(Context(phase, "layer 'one'", options))
    layer.setup(message(type_name, text, tops), [])
    assert isinstance(layer, Source)
    return layer


def field(type_name: str) -> str:
    return "dense_image_data_param" if type_name == "DenseImageData" else "image_data_param"


def text_for(type_name: str, folder: Path, own: str = "", transform: str = "") -> str:
    pixel = "label_type: PIXEL" if type_name == "ImageSegData" else ""
    return (
        f"{field(type_name)} {{ source: '{folder}/list' root_folder: '{folder}/' batch_size: 2 "
        f"{pixel} {own} }} transform_param {{ {transform} }}"
    )


def values(layer: Source, index: int) -> list[np.ndarray]:
    read = layer.read(index)
    assert read is not None
    return [np.asarray(top) for top in read]


TYPES = ["ImageSegData", "DenseImageData"]


@pytest.mark.parametrize("type_name", TYPES)
def test_whole_images_and_their_maps(type_name: str, folder: Path) -> None:
    layer = source(type_name, text_for(type_name, folder, "", "mean_value: [1, 2, 3] scale: 0.5"))
    assert layer.shapes == [(2, 3, HEIGHT, WIDTH), (2, 1, HEIGHT, WIDTH)]
    images, maps = values(layer, 2)
    rows, columns = np.indices((HEIGHT, WIDTH))
    for item, number in enumerate((4, 0)):
        np.testing.assert_array_equal(images[item, 0], np.full((HEIGHT, WIDTH), (number - 1) / 2))
        np.testing.assert_array_equal(images[item, 1], (rows - 2) / 2)
        np.testing.assert_array_equal(images[item, 2], (columns - 3) / 2)
        np.testing.assert_array_equal(maps[item, 0], rows * WIDTH + columns + number)
    layer.close()


@pytest.mark.parametrize("type_name", TYPES)
def test_maps_take_the_crop_and_the_flip_of_their_image(type_name: str, folder: Path) -> None:
    dense = type_name == "DenseImageData"
    own = "mirror: true crop_height: 3 crop_width: 4" if dense else ""
    transform = "" if dense else "mirror: true crop_h: 3 crop_w: 4"
    layer = source(type_name, text_for(type_name, folder, own, transform))
    places, flipped = set(), set()
    for index in range(12):
        images, maps = values(layer, index)
        assert images.shape == (2, 3, 3, 4)
        number, row, column = images.transpose(1, 0, 2, 3)
        np.testing.assert_array_equal(maps[:, 0], row * WIDTH + column + number)
        places |= {(int(r.min()), int(c.min())) for r, c in zip(row, column, strict=True)}
        flipped |= {bool(c[0, 0] > c[0, 1]) for c in column}
    assert len(places) > 8
    assert flipped == {True, False}
    again = source(type_name, text_for(type_name, folder, own, transform))
    for one, other in zip(values(layer, 5), values(again, 5), strict=True):
        np.testing.assert_array_equal(one, other)
    layer.close()
    again.close()


def test_the_middle_is_cropped_in_test(folder: Path) -> None:
    layer = source(
        "ImageSegData", text_for("ImageSegData", folder, "", "crop_size: 4"), phase="TEST"
    )
    images, _ = values(layer, 0)
    assert (images[0, 1, 0, 0], images[0, 2, 0, 0]) == (1, 2)
    layer.close()


def test_small_images_get_a_border_of_the_mean_and_of_ignored_labels(folder: Path) -> None:
    transform = "crop_size: 9 mean_value: 7 scale: 2"
    text = text_for("ImageSegData", folder, "ignore_label: 99", transform)
    layer = source("ImageSegData", text, tops=3, phase="TEST")
    images, maps, sizes = values(layer, 0)
    assert images.shape == (2, 3, 9, 9)
    # Three rows and one column are missing: one row above, two below, one column after.
    border = np.ones((9, 9), bool)
    border[1:7, 0:8] = False
    assert (images[0][:, border] == 0).all()
    assert (maps[0, 0][border] == 99).all()
    rows, columns = np.indices((HEIGHT, WIDTH))
    np.testing.assert_array_equal(images[0, 1, 1:7, :8], (rows - 7) * 2)
    np.testing.assert_array_equal(maps[0, 0, 1:7, :8], rows * WIDTH + columns)
    assert sizes.reshape(2, 2).tolist() == [[HEIGHT, WIDTH]] * 2
    layer.close()


def test_labels_are_resized_to_the_nearest_pixel(folder: Path) -> None:
    layer = source("ImageSegData", text_for("ImageSegData", folder, "new_height: 12 new_width: 16"))
    _, maps = values(layer, 0)
    rows, columns = np.indices((12, 16)) // 2
    np.testing.assert_array_equal(maps[0, 0], rows * WIDTH + columns)
    layer.close()


def test_smaller_maps_of_enet(folder: Path) -> None:
    own = "new_height: 6 new_width: 8 label_divide_factor: 2 mirror: true"
    layer = source("DenseImageData", text_for("DenseImageData", folder, own))
    assert layer.shapes == [(2, 3, 6, 8), (2, 1, 3, 4)]
    flips = set()
    for index in range(8):
        images, maps = values(layer, index)
        assert maps.shape == (2, 1, 3, 4)
        for image, labels in zip(images, maps[:, 0], strict=True):
            rows, columns = np.indices((3, 4)) * 2
            wanted = rows * WIDTH + columns + int(image[0, 0, 0])
            flipped = bool(image[2, 0, 0])
            flips.add(flipped)
            assert np.array_equal(labels, wanted[:, ::-1] if flipped else wanted)
    assert flips == {True, False}
    for wrong in ("label_divide_factor: 2", f"{own} crop_height: 2 crop_width: 2"):
        with pytest.raises(LayerError, match="label_divide_factor 2 needs new_height"):
            source("DenseImageData", text_for("DenseImageData", folder, wrong))


def augmented(folder: Path, transform: str, phase: str = "TRAIN") -> Source:
    return source("ImageSegData", text_for("ImageSegData", folder, "", transform), phase=phase)


def test_turned_images_take_their_maps_along(folder: Path) -> None:
    """Labels tell the row and the column of each pixel, and so does the image."""
    layer = source(
        "ImageSegData",
        text_for("ImageSegData", folder, "", "max_rotation_angle: 90 crop_size: 12"),
    )
    turned = 0
    for index in range(6):
        images, maps = values(layer, index)
        for image, labels in zip(images, maps[:, 0], strict=True):
            inside = labels != 255
            turned += not np.array_equal(inside[3:9, 2:10], np.ones((6, 8), bool))
            number = int(image[0][inside].max())
            row, column = np.divmod(labels - number, WIDTH)
            # At its edge the image fades into the border.
            whole = inside.copy()
            for axis in (0, 1):
                for step in (-1, 1):
                    whole &= np.roll(inside, step, axis)
            assert np.abs(row - image[1])[whole].max() <= 1
            assert np.abs(column - image[2])[whole].max() <= 1
    assert turned > 3


def test_colours_contrast_and_smoothness_in_training(folder: Path) -> None:
    plain = [values(augmented(folder, ""), index) for index in range(8)]
    shift = augmented(folder, "max_color_shift: 20 apply_probability: 1")
    signs = set()
    for index in range(8):
        images, maps = values(shift, index)
        assert np.array_equal(maps, plain[index][1])
        for before, after in zip(plain[index][0], images, strict=True):
            moved = after - before
            if (moved >= 0).all():
                assert np.array_equal(moved, np.broadcast_to(moved[:, :1, :1], moved.shape))
                assert moved.max() <= 20
            signs.add(bool(moved.max() > 0))
    assert signs == {True, False}
    text = "contrast_brightness_adjustment: true min_contrast: 2 max_contrast: 3 "
    contrast = augmented(folder, f"{text} max_brightness_shift: 0 apply_probability: 1")
    for index in range(3):
        images, _ = values(contrast, index)
        for before, after in zip(plain[index][0], images, strict=True):
            factor = after[2, 0, 7] / before[2, 0, 7]
            assert 1.9 < factor < 3.1
            assert np.abs(after - factor * before).max() <= 1
    smooth = augmented(folder, "smooth_filtering: true max_smooth: 6 apply_probability: 1")
    changed = [not np.array_equal(values(smooth, i)[0], plain[i][0]) for i in range(8)]
    assert sum(changed) > 4
    never = augmented(folder, "smooth_filtering: true max_color_shift: 9 apply_probability: 0")
    resting = augmented(folder, "max_rotation_angle: 90 max_color_shift: 9", "TEST")
    for layer in (never, resting):
        assert np.array_equal(values(layer, 0)[0], plain[0][0])


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        ("smooth_filtering: true max_smooth: 1", "max_smooth is 1, expected 2 or more"),
        ("smooth_filtering: true max_smooth: inf", "max_smooth is inf, expected 2 or more"),
        ("smooth_filtering: true max_smooth: nan", "max_smooth is nan, expected 2 or more"),
        ("contrast_brightness_adjustment: true min_contrast: 2", "min_contrast is 2 and max_con"),
        ("contrast_brightness_adjustment: true max_contrast: inf", "and max_contrast inf; the"),
        ("max_color_shift: 3 apply_probability: 2", "apply_probability is 2, expected 0 to 1"),
    ],
)
def test_impossible_augmentations(folder: Path, transform: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        augmented(folder, transform)


def test_one_label_for_an_image_and_none(folder: Path) -> None:
    (folder / "list").write_text("i0.png 3\ni1.png 250\n")
    text = text_for("ImageSegData", folder).replace("label_type: PIXEL", "")
    layer = source("ImageSegData", text)
    maps = values(layer, 0)[1]
    assert [sorted(set(one.flat)) for one in maps] == [[3], [250]]
    layer.close()
    text = text_for("ImageSegData", folder, "ignore_label: 7").replace("PIXEL", "NONE")
    layer = source("ImageSegData", text)
    assert set(values(layer, 0)[1].flat) == {7}
    layer.close()


def test_maps_of_edges_are_rounded(folder: Path) -> None:
    strong = np.array([[0, 127, 128, 255]] * HEIGHT, np.uint8).repeat(2, 1)
    for number in range(5):
        (folder / f"l{number}.png").write_bytes(encode_image(strong, "png"))
    layer = source("ImageLabelmapData", text_for("ImageLabelmapData", folder))
    _, maps = values(layer, 0)
    np.testing.assert_array_equal(maps[1, 0], [[0, 0, 0, 0, 1, 1, 1, 1]] * HEIGHT)
    layer.close()


def test_ranks_read_their_rows(folder: Path) -> None:
    text = text_for("ImageSegData", folder, "", "crop_size: 3 mirror: true")
    whole = source("ImageSegData", text)
    parts = []
    for rank in range(2):
        options = BuildOptions(seed=3, workers=1, shard=Shard(rank, 2))
        part = source("ImageSegData", text, options=options)
        assert part.shapes[1] == (1, 1, 3, 3)
        parts.append(values(part, 4))
        part.close()
    for top, pair in zip(values(whole, 4), zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(top, np.concatenate(pair))
    whole.close()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("i0.png l0.png\ni1.png", "line 2 is 'i1.png'; expected the name of an image and a label"),
        ("i0.png none.png", r"line 1 \(image .*its label image 'none.png': it cannot be read"),
        ("i0.png small.png", "it is 6x8 .* its label image 'small.png' is 2x2; both must have"),
        ("", "the list is empty"),
    ],
)
def test_bad_lists(folder: Path, lines: str, words: str) -> None:
    (folder / "small.png").write_bytes(encode_image(np.zeros((2, 2), np.uint8), "png"))
    (folder / "list").write_text(lines)
    with pytest.raises(DataError, match=words):
        source("ImageSegData", text_for("ImageSegData", folder))


def test_images_of_two_sizes_in_a_batch(folder: Path) -> None:
    for name in ("i1", "l1"):
        (folder / f"{name}.png").write_bytes(encode_image(np.zeros((3, 3, 3), np.uint8), "png"))
    layer = source("ImageSegData", text_for("ImageSegData", folder))
    with pytest.raises(DataError, match=r"line 2 .*use batch_size 1"):
        layer.read(0)
    layer.close()


@pytest.mark.parametrize(
    ("type_name", "own", "transform", "words"),
    [
        ("ImageSegData", "new_height: 3", "", "set both, or neither"),
        ("ImageSegData", "", "crop_size: 3 crop_h: 2 crop_w: 2", "give crop_size, or"),
        ("ImageSegData", "", "mean_file: 'm'", "takes mean_value"),
        ("DenseImageData", "", "mirror: true", "would not change the labels too"),
        ("DenseImageData", "crop_height: 7 crop_width: 7", "", "smaller than the crop 7x7"),
    ],
)
def test_bad_settings(folder: Path, type_name: str, own: str, transform: str, words: str) -> None:
    with pytest.raises((LayerError, DataError), match=words):
        source(type_name, text_for(type_name, folder, own, transform))


NET = """layer {{ name: 'd' type: '{type}' top: 'data' top: 'label' {field} {{ source: 'no'
  batch_size: 4 {own} }} transform_param {{ {transform} }} }}"""


def test_shapes_without_the_list() -> None:
    def shapes(own: str, transform: str = "", **options: Any) -> list[tuple[int, ...]]:
        text = NET.format(
            type="ImageSegData", field="image_data_param", own=own, transform=transform
        )
        net = Net(parse_text(text, "NetParameter")[0], shapes_only=True, **options)
        return [net.blobs[name].shape for name in ("data", "label")]

    assert shapes("", "crop_h: 5 crop_w: 6") == [(4, 3, 5, 6), (4, 1, 5, 6)]
    assert shapes("new_height: 7 new_width: 9 is_color: false") == [(4, 1, 7, 9), (4, 1, 7, 9)]
    stated = {"data": (3, 8, 9)}
    assert shapes("", shapes=stated) == [(4, 3, 8, 9), (4, 1, 8, 9)]
    with pytest.raises(FileProblem, match="state it with --shape data=3x224x224"):
        shapes("")


def test_a_missing_list_is_made_by_the_command_that_is_named(folder: Path) -> None:
    text = text_for("ImageSegData", folder).replace("/list", "/none")
    with pytest.raises(FileProblem, match=r"ls IMAGES .* sed "):
        source("ImageSegData", text)


def test_fork_fields_of_other_versions_are_refused() -> None:
    text = NET.format(
        type="ImageSegData", field="image_data_param", own="min_height: 3", transform="crop_size: 4"
    )
    with pytest.raises(
        CaffeError, match=r"image_data_param\.min_height: from another Caffe version"
    ):
        Net(parse_text(text, "NetParameter")[0], shapes_only=True)


def test_edges_and_other_pixels_have_the_same_weight() -> None:
    x = distinct((2, 1, 3, 4))
    y = (distinct((2, 1, 3, 4), 1) > 0.1).double()
    y[0, 0, 0, 0] = 2
    (loss,) = run("SigmoidCrossEntropyLoss (HED, RCF)", "", x, y)
    total = 0.0
    for scores, labels in zip(x.reshape(2, -1).tolist(), y.reshape(2, -1).tolist(), strict=True):
        ones, zeros = labels.count(1), labels.count(0)
        for score, label in zip(scores, labels, strict=True):
            p = 1 / (1 + np.exp(-score))
            if label == 1:
                total -= np.log(p) * zeros / (ones + zeros)
            elif label == 0:
                total -= np.log(1 - p) * ones / (ones + zeros)
    assert loss.item() == pytest.approx(total / 2)


def test_a_dialect_tells_which_cross_entropy_is_meant() -> None:
    layer = message("SigmoidCrossEntropyLoss")
    assert not catalogue.choose(layer).fork
    assert catalogue.choose(layer, "hed").fork == "HED, RCF"
