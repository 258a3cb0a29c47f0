"""ImageLabelData and BinLabelData: images and arrays with a grid of labels."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.codec.images import encode_image
from caffecompat.data.sources.label_grids.sliced_maps import Grid, parse_bin
from caffecompat.errors import CaffeError, DataError, FileProblem, LayerError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from tests.layers.messages import message

cv2 = pytest.importorskip("cv2")

HEIGHT, WIDTH = 6, 8
OPTIONS = BuildOptions(seed=3, workers=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images and arrays in which each place tells its number, row and column; labels, too."""
    names: dict[str, list[str]] = {"images": [], "labels": [], "bins": []}
    (tmp_path / "l").mkdir()
    for number in range(5):
        rows, columns = np.indices((HEIGHT, WIDTH), np.uint8)
        image = np.stack([np.full_like(rows, number), rows, columns], 2)
        labels = rows * WIDTH + columns
        (tmp_path / f"i{number}.png").write_bytes(encode_image(image, "png"))
        (tmp_path / "l" / f"{number}.png").write_bytes(encode_image(labels, "png"))
        values = image.transpose(2, 0, 1)[:, :4, :5].astype("<f4")
        head = np.array([5, 3, *values.shape], "<i4")
        (tmp_path / f"{number}.bin").write_bytes(head.tobytes() + values.tobytes() + b"more")
        for kind, name in zip(
            names, (f"i{number}.png", f"{number}.png", f"{number}.bin"), strict=True
        ):
            names[kind].append(name)
    for kind, found in names.items():
        (tmp_path / kind).write_text("\n".join(found) + "\n")
    return tmp_path


def source(
    type_name: str, text: str, phase: str = "TEST", options: BuildOptions = OPTIONS
) -> Source:
    layer = catalogue.find(type_name)(Context(phase, "layer 'one'", options))
    layer.setup(message(type_name, text, 2), [])
    assert isinstance(layer, Source)
    return layer


def values(layer: Source, index: int) -> list[np.ndarray]:
    read = layer.read(index)
    assert read is not None
    return [np.asarray(top) for top in read]


def images(folder: Path, own: str, transform: str) -> str:
    return (
        f"image_label_data_param {{ image_list_path: '{folder}/images' label_list_path: "
        f"'{folder}/labels' image_dir: '{folder}/' label_dir: '{folder}/l/' batch_size: 2 {own} }} "
        f"transform_param {{ {transform} }}"
    )


def arrays(folder: Path, own: str) -> str:
    return (
        f"bin_label_data_param {{ bin_list_path: '{folder}/bins' label_list_path: "
        f"'{folder}/labels' bin_dir: '{folder}/' label_dir: '{folder}/l/' batch_size: 2 {own} }}"
    )


GRID = "label_slice { dim: [2, 3] stride: [2, 1] offset: [1, 2] }"


def test_border_crop_and_grid(folder: Path) -> None:
    """The margin, then the rest up to the crop, whose larger half is above to the left."""
    layer = source("ImageLabelData", images(folder, GRID, "crop_size: 13 mean_value: 1 scale: 0.5"))
    assert layer.shapes == [(2, 3, 13, 13), (2, 1, 2, 3)]
    read, labels = values(layer, 1)
    for item, number in enumerate((2, 3)):
        image = np.stack([np.full((HEIGHT, WIDTH), number), *np.indices((HEIGHT, WIDTH))], 2)
        image = cv2.copyMakeBorder(image.astype("u1"), 1, 1, 2, 2, cv2.BORDER_REFLECT_101)
        image = cv2.copyMakeBorder(image, 2, 3, 1, 0, cv2.BORDER_REFLECT_101)
        expected = (image.transpose(2, 0, 1).astype("f4") - 1) / 2
        np.testing.assert_array_equal(read[item], expected)
        # The image begins in row 3 and column 3; row 1 and column 2 of the crop lie outside.
        expected_labels = [[255, 255, 255], [255, 0, 1]]
        assert labels[item, 0].tolist() == expected_labels
    layer.close()


def test_a_border_of_zeros(folder: Path) -> None:
    own = f"padding: ZERO {GRID}"
    layer = source("ImageLabelData", images(folder, own, "crop_size: 13 mean_value: 1"))
    (read, _) = values(layer, 2)
    assert (read[:, :, :3] == -1).all()
    assert (read[:, :, :, :3] == -1).all()
    assert read[0, 0, 3, 3] == 4 - 1
    layer.close()


def test_labels_are_those_of_the_cropped_and_flipped_pixels(folder: Path) -> None:
    """With a grid at every pixel each label names the row and the column of its pixel."""
    own = "label_slice { dim: [4, 4] stride: [1, 1] offset: [0, 0] }"
    layer = source("ImageLabelData", images(folder, own, "crop_size: 4 mirror: true"), "TRAIN")
    places, flips = set(), set()
    for index in range(12):
        read, labels = values(layer, index)
        np.testing.assert_array_equal(labels[:, 0], read[:, 1] * WIDTH + read[:, 2])
        places |= {(row.min(), column.min()) for row, column in read[:, 1:]}
        flips |= {bool(column[0, 0] > column[0, 1]) for column in read[:, 2]}
    assert len(places) > 8
    assert flips == {True, False}
    layer.close()


def test_random_sizes(folder: Path) -> None:
    """Sizes differ, image and labels have one, and the labels stay whole numbers of the map."""
    own = (
        "rand_scale: true min_scale: 0.5 max_scale: 2 "
        "label_slice { dim: [5, 5] stride: [1, 1] offset: [0, 0] }"
    )
    layer = source("ImageLabelData", images(folder, own, "crop_size: 16"))
    borders = set()
    for index in range(10):
        _, labels = values(layer, index)
        borders |= {int((one[0] != 255).sum()) for one in labels}
        assert set(np.unique(labels)) <= {*range(HEIGHT * WIDTH), 255}
    assert len(borders) > 3
    again = source("ImageLabelData", images(folder, own, "crop_size: 16"))
    np.testing.assert_array_equal(values(layer, 3)[0], values(again, 3)[0])
    layer.close()
    again.close()


def test_one_folder_for_both_and_a_skip(folder: Path) -> None:
    (folder / "labels").write_text(" ".join(f"l/{number}.png" for number in range(5)))
    text = (
        f"image_label_data_param {{ image_list_path: '{folder}/images' label_list_path: "
        f"'{folder}/labels' data_dir: '{folder}/' shuffle: true rand_skip: 3 {GRID} }} "
        "transform_param { crop_size: 9 }"
    )
    layer = source("ImageLabelData", text)
    first = [values(layer, index)[0][0, 0, 4, 4] for index in range(10)]
    assert set(first) == set(range(5))
    layer.close()


def test_arrays_with_labels(folder: Path) -> None:
    own = "mirror: false label_slice { dim: [2, 3] stride: 4 offset: [1, 0] }"
    layer = source("BinLabelData", arrays(folder, own))
    assert layer.shapes == [(2, 3, 4, 5), (2, 1, 2, 3)]
    read, labels = values(layer, 2)
    rows, columns = np.indices((4, 5))
    for item, number in enumerate((4, 0)):
        np.testing.assert_array_equal(read[item, 0], np.full((4, 5), number))
        np.testing.assert_array_equal(read[item, 1:], np.stack([rows, columns]))
        # Column 8 is beyond the label image.
        assert labels[item, 0].tolist() == [[8, 12, 255], [40, 44, 255]]
    layer.close()


def test_slices_of_arrays_and_flips(folder: Path) -> None:
    own = "bin_slice { dim: 2 stride: 2 offset: [1, 0] } label_slice { dim: [2, 2] }"
    layer = source("BinLabelData", arrays(folder, own))
    assert layer.shapes == [(2, 3, 2, 2), (2, 1, 2, 2)]
    flips = set()
    for index in range(8):
        for image, (one,) in zip(*values(layer, index), strict=True):
            assert image[1].tolist() == [[1, 1], [3, 3]]
            flipped = bool(image[2, 0, 0] == 2)
            assert image[2].tolist() == ([[2, 0], [2, 0]] if flipped else [[0, 2], [0, 2]])
            assert one.tolist() == ([[1, 0], [9, 8]] if flipped else [[0, 1], [8, 9]])
            flips.add(flipped)
    assert flips == {True, False}
    layer.close()


@pytest.mark.parametrize(
    ("own", "transform", "words", "better", "better_transform"),
    [
        (GRID, "", "has no crop_size, which it needs", GRID, "crop_size: 9"),
        (
            GRID,
            "crop_size: 4",
            "label_slice reaches to 4x5, beyond the crop_size 4; make its dim smaller",
            GRID.replace("[2, 3]", "[2, 2]"),
            "crop_size: 4",
        ),
        (
            "label_slice { dim: [2, 3] stride: 2 offset: [1, 1] }",
            "crop_size: 9",
            "label_slice has 1 values of stride; give stride twice, for height and width",
            "label_slice { dim: [2, 3] stride: [2, 2] offset: [1, 1] }",
            "crop_size: 9",
        ),
        (
            f"{GRID} rand_scale: true min_scale: 2",
            "crop_size: 9",
            "min_scale is 2 and max_scale 1; expected 0 < min_scale <= max_scale",
            f"{GRID} rand_scale: true min_scale: 2 max_scale: 3",
            "crop_size: 9",
        ),
        (
            GRID,
            "crop_size: 9 mean_file: 'm'",
            "it takes mean_value, and no mean_file",
            GRID,
            "crop_size: 9 mean_value: 3",
        ),
        (
            GRID.replace("2, 3", "0, 3"),
            "crop_size: 9",
            "label_slice: dim is 0, it must be positive",
            GRID,
            "crop_size: 9",
        ),
    ],
)
def test_settings_that_are_refused(
    own: str, transform: str, words: str, better: str, better_transform: str, folder: Path
) -> None:
    with pytest.raises(LayerError) as caught:
        source("ImageLabelData", images(folder, own, transform))
    assert words in str(caught.value)
    source("ImageLabelData", images(folder, better, better_transform)).close()


def test_a_grid_needs_its_size(folder: Path) -> None:
    with pytest.raises(LayerError, match="label_slice has 0 values of dim; give dim twice"):
        source("BinLabelData", arrays(folder, ""))
    with pytest.raises(LayerError, match="bin_slice has 0 values of dim; give dim twice"):
        source("BinLabelData", arrays(folder, "label_slice { dim: 2 } bin_slice { stride: 2 }"))
    source("BinLabelData", arrays(folder, "label_slice { dim: [1, 2] }")).close()


def test_files_that_are_refused(folder: Path) -> None:
    slices = "label_slice { dim: 2 } bin_slice { dim: 2 offset: 3 }"
    with pytest.raises(DataError, match=r"it is 4x5 .* but bin_slice reaches to 5x5"):
        source("BinLabelData", arrays(folder, slices))
    (folder / "0.bin").write_bytes(b"\5\0\0\0\2\0\0\0")
    with pytest.raises(DataError, match=r"begins with 5, 2; expected 5 \(float32\), 3 and three"):
        source("BinLabelData", arrays(folder, "label_slice { dim: 2 }"))
    whole = np.array([5, 3, 1, 2, 2, 0, 0, 0, 0], "<i4").tobytes()
    assert parse_bin(whole).shape == (1, 2, 2)
    with pytest.raises(DataError, match="it is cut off: 1x2x2 are 4 values, and it has 3"):
        parse_bin(whole[:-1])
    (folder / "labels").write_text("0.png 1.png")
    with pytest.raises(DataError, match=r"it has 5 names, but .*labels has 2; give a label image"):
        source("ImageLabelData", images(folder, GRID, "crop_size: 9"))
    (folder / "images").write_text("i0.png i1.png")
    source("ImageLabelData", images(folder, GRID, "crop_size: 9")).close()


def test_an_image_that_becomes_nothing(folder: Path) -> None:
    own = f"{GRID} rand_scale: true min_scale: 0.01 max_scale: 0.02"
    with pytest.raises(DataError, match=r"a scale of 0.01\d* leaves nothing of 6x8 \(height x"):
        source("ImageLabelData", images(folder, own, "crop_size: 9"))


def test_commands_that_make_the_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, prefix in (("IMAGES", "i"), ("LABELS", "l/")):
        (folder / kind).mkdir()
        for number in range(2):
            found = (folder / f"{prefix}{number}.png").read_bytes()
            (folder / kind / f"{number}.png").write_bytes(found)
    monkeypatch.chdir(folder)
    text = (
        "image_label_data_param { image_list_path: 'new list' label_list_path: 'maps' image_dir: "
        f"'IMAGES/' label_dir: 'LABELS/' {GRID} }} transform_param {{ crop_size: 9 }}"
    )
    with pytest.raises(FileProblem) as caught:
        source("ImageLabelData", text)
    _, _, command = str(caught.value).partition(", run: ")
    assert command == "ls IMAGES > 'new list' && ls LABELS > maps"
    subprocess.run(command, shell=True, check=True)
    layer = source("ImageLabelData", text)
    assert values(layer, 1)[0][0, 0, 4, 4] == 1
    layer.close()


def test_shapes_without_files() -> None:
    options = BuildOptions(shapes_only=True)
    text = (
        "image_label_data_param { image_list_path: 'no' label_list_path: 'no' batch_size: 3 "
        f"{GRID} }} transform_param {{ crop_size: 9 }}"
    )
    assert source("ImageLabelData", text, options=options).shapes == [(3, 3, 9, 9), (3, 1, 2, 3)]
    bins = (
        "bin_label_data_param { bin_list_path: 'no' label_list_path: 'no' label_slice { dim: 4 } }"
    )
    with pytest.raises(CaffeError, match="the shape of an array stands in its file; state it with"):
        source("BinLabelData", bins, options=options)
    layer = catalogue.find("BinLabelData")(Context("TEST", "layer 'one'", options))
    assert isinstance(layer, Source)
    layer.state_shapes(message("BinLabelData", bins, 2), {"t0": (21, 7, 5)})
    assert layer.shapes == [(1, 21, 7, 5), (1, 1, 4, 4)]


def test_a_grid_beyond_the_values_gives_255() -> None:
    grid = Grid((0, 1), (3, 2), (2, 2))
    assert grid.end == (4, 4)
    assert grid.of(np.arange(9).reshape(3, 3)).tolist() == [[1, 255], [255, 255]]
