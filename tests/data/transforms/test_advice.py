"""A transform_param that is refused, and the same one changed as the message says, in a net."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.codec.images import encode_image
from caffecompat.errors import CaffeError
from caffecompat.weights import write_mean
from tests.data.databases import encoded_datum, numbered, write_records
from tests.net.nets import net

RESIZED = "img_rand_resize_lower: %d img_rand_resize_upper: %d crop_size: %d"
VALUES = "colour_eigenvalue: 1 colour_eigenvalue: 2 "
VECTORS = "colour_eigenvector: 1 " * 2
COLOUR_SHIFT = (
    "colour_shift_std: 0.1 colour_eigenvalue: 1 "
    "colour_eigenvector: 1 colour_eigenvector: 2 colour_eigenvector: 3"
)


def run(transform: str, source: str = "db", phase: str = "TRAIN") -> None:
    """Two batches of a Data layer, which must be finite."""
    built = net(
        f"layer {{ name: 'one' type: 'Data' top: 'data' data_param {{ source: '{source}' "
        f"batch_size: 2 backend: LMDB }} transform_param {{ {transform} }} }}",
        phase=phase,
    )
    for _ in range(2):
        built.forward()
        assert np.isfinite(np.asarray(built.blobs["data"].data)).all()


def run_list(settings: str, transform: str) -> None:
    """A batch of an ImageData layer."""
    built = net(
        "layer { name: 'one' type: 'ImageData' top: 'data' top: 'label' "
        f"image_data_param {{ source: 'list.txt' {settings} }} "
        f"transform_param {{ {transform} }} }}"
    )
    built.forward()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of 3x7x9 and of 1x7x9, images of two sizes, and means."""
    monkeypatch.chdir(tmp_path)
    numbered(Path("db"), 4)
    numbered(Path("gray"), 4, (1, 7, 9))
    for number in range(2):
        pixels = np.full((7 + number, 9, 3), 10 * number, np.uint8)
        Path(f"{number}.png").write_bytes(encode_image(pixels, "png"))
    Path("list.txt").write_text("0.png 0\n1.png 1\n")
    for name, shape in (
        ("mean", (3, 7, 9)),
        ("crop4", (3, 4, 4)),
        ("gray4", (1, 4, 4)),
    ):
        write_mean(np.ones(shape, np.float32), f"{name}.binaryproto")


@pytest.mark.parametrize(
    ("bad", "words", "remedies"),
    [
        (
            "mean_file: 'mean.binaryproto' mean_value: 1",
            "and mean_value are both given; remove one of them",
            ["mean_file: 'mean.binaryproto'", "mean_value: 1"],
        ),
        (
            "crop_size: 4 crop_mean_file: 'crop4.binaryproto' mean_value: 1",
            "and mean_value are both given; remove one of them",
            ["crop_size: 4 crop_mean_file: 'crop4.binaryproto'", "crop_size: 4 mean_value: 1"],
        ),
        (
            "crop_size: 4 crop_mean_file: 'crop4.binaryproto' mean_file: 'mean.binaryproto'",
            "and mean_file are both given; remove one of them",
            [
                "crop_size: 4 crop_mean_file: 'crop4.binaryproto'",
                "crop_size: 4 mean_file: 'mean.binaryproto'",
            ],
        ),
        (
            "colour_eigenvalue: 1 "
            "colour_eigenvector: 1 colour_eigenvector: 2 colour_eigenvector: 3",
            "shift colours only with colour_shift_std; give it, 0.1 in the paper",
            [COLOUR_SHIFT],
        ),
        (
            COLOUR_SHIFT.replace("colour_eigenvalue: 1", VALUES),
            "give one value and one number per channel for each direction",
            [COLOUR_SHIFT],
        ),
        (
            "crop_size: 8",
            "(height x width), smaller than crop_size 8; make the database again",
            ["crop_size: 7"],
        ),
        (
            "mean_value: 1 mean_value: 2",
            "has 2 mean_value; give one, or one per channel (in B, G, R order)",
            ["mean_value: 1", "mean_value: 1 mean_value: 2 mean_value: 3"],
        ),
        (
            "crop_size: 4 crop_mean_file: 'gray4.binaryproto'",
            "has 1; use force_color or force_gray, or a mean that fits",
            ["crop_size: 4 crop_mean_file: 'crop4.binaryproto'"],
        ),
        (
            "img_rand_resize_lower: 8",
            "give both, the upper one at least as large (equal ones fix the size)",
            [
                "img_rand_resize_lower: 8 img_rand_resize_upper: 10 crop_size: 6",
                "img_rand_resize_lower: 8 img_rand_resize_upper: 8",
            ],
        ),
        (
            RESIZED % (5, 9, 6),
            "less than crop_size 6; raise them or make crop_size smaller",
            [RESIZED % (6, 9, 6), RESIZED % (5, 9, 5)],
        ),
        (
            RESIZED % (6, 9, 5) + " mean_file: 'crop4.binaryproto'",
            "so give a crop_size that fits, or mean_value",
            [
                RESIZED % (6, 9, 4) + " mean_file: 'crop4.binaryproto'",
                RESIZED % (6, 9, 5) + " mean_value: 1",
            ],
        ),
        (
            "resize_size: 6 vertical_stretch_lower: 2",
            "are fields of different Caffe versions; remove one of them",
            ["resize_size: 6", "vertical_stretch_lower: 2"],
        ),
        (
            "resize_size: 6 resize_short_side_min: 5 resize_short_side_max: 8 crop_size: 5",
            "resize_size and resize_short_side_min or _max are both given; remove one of them",
            [
                "resize_size: 6 crop_size: 5",
                "resize_short_side_min: 5 resize_short_side_max: 8 crop_size: 5",
            ],
        ),
        (
            "resize_short_side_min: 5 crop_size: 5",
            "resize_short_side_max is 0; give both, the larger one last",
            ["resize_short_side_min: 5 resize_short_side_max: 8 crop_size: 5"],
        ),
    ],
)
def test_data(bad: str, words: str, remedies: list[str]) -> None:
    with pytest.raises(CaffeError) as caught:
        run(bad)
    assert words in str(caught.value)
    for good in remedies:
        run(good)


def test_force_color_and_force_gray() -> None:
    write_records(Path("encoded"), [encoded_datum(Path("0.png").read_bytes())] * 3)
    with pytest.raises(CaffeError) as caught:
        run("force_color: true force_gray: true", "encoded")
    assert "are both set, but they exclude each other; remove one" in str(caught.value)
    run("force_color: true", "encoded")
    run("force_gray: true", "encoded")


def test_a_mean_and_directions_of_colour_images_for_gray_ones() -> None:
    gray = encode_image(np.full((7, 9), 30, np.uint8), "png")
    write_records(Path("encoded"), [encoded_datum(gray)] * 3)
    with pytest.raises(CaffeError) as caught:
        run(COLOUR_SHIFT, "encoded")
    assert "has 3 numbers; use force_color, or directions that fit" in str(caught.value)
    run(f"{COLOUR_SHIFT} force_color: true", "encoded")
    run("colour_shift_std: 0.1 colour_eigenvalue: 1 colour_eigenvector: 1", "encoded")
    crop = "crop_size: 4 crop_mean_file: '%s.binaryproto' %s"
    words = "use force_color or force_gray, or a mean that fits"
    with pytest.raises(CaffeError) as caught:
        run(crop % ("crop4", ""), "encoded")
    assert words in str(caught.value)
    run(crop % ("crop4", "force_color: true"), "encoded")
    run(crop % ("gray4", ""), "encoded")
    write_records(Path("colour"), [encoded_datum(Path("0.png").read_bytes())] * 3)
    with pytest.raises(CaffeError) as caught:
        run(crop % ("gray4", ""), "colour")
    assert words in str(caught.value)
    run(crop % ("gray4", "force_gray: true"), "colour")


def test_images_of_several_sizes() -> None:
    words = "use batch_size 1, one size for all images, or crop_size"
    with pytest.raises(CaffeError) as caught:
        run_list("batch_size: 2", "")
    assert words in str(caught.value)
    run_list("batch_size: 1", "")
    run_list("batch_size: 2", "crop_size: 6")
    run_list("batch_size: 2 new_height: 8 new_width: 8", "")


def test_one_side_of_the_new_size() -> None:
    with pytest.raises(CaffeError) as caught:
        run_list("batch_size: 2 new_height: 8", "crop_size: 6")
    assert "set both, or neither" in str(caught.value)
    run_list("batch_size: 2 new_height: 8 new_width: 8", "crop_size: 6")
    run_list("batch_size: 2", "crop_size: 6")


def test_a_crop_larger_than_the_image() -> None:
    with pytest.raises(CaffeError) as caught:
        run_list("batch_size: 2", "crop_size: 12")
    assert "give an ImageData layer new_height and new_width, or use a smaller" in str(caught.value)
    run_list("batch_size: 2 new_height: 12 new_width: 12", "crop_size: 12")
    run_list("batch_size: 2", "crop_size: 7")


def test_a_rand_skip_beyond_the_list() -> None:
    with pytest.raises(CaffeError) as caught:
        run_list("batch_size: 1 rand_skip: 1000000", "")
    assert "images, but the list has 2; make rand_skip smaller" in str(caught.value)
    run_list("batch_size: 1 rand_skip: 1", "")


def test_hdf5_data_that_is_transformed() -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("rows.h5", "w") as file:
        file["data"] = np.ones((4, 3), np.float32)
    Path("files.txt").write_text("rows.h5\n")
    text = (
        "layer { name: 'one' type: 'HDF5Data' top: 'data' "
        "hdf5_data_param { source: 'files.txt' batch_size: 2 } %s }"
    )
    with pytest.raises(CaffeError) as caught:
        net(text % "transform_param { scale: 2 }").forward()
    assert "remove transform_param and store the values as the net needs" in str(caught.value)
    net(text % "").forward()
