"""Images, lists and folders that are refused; changed as the message says, they are taken."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.codec.images import decode_image
from caffecompat.errors import CaffeError, DataError
from tests.data.databases import datum, encoded_datum, write_records
from tests.net.nets import net


def png(pixels: np.ndarray, compression: int = 9) -> bytes:
    return cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, compression])[1].tobytes()


def test_an_image_of_very_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffecompat.data.codec.images._PIXELS_OF_A_SMALL_FILE", 100)
    monkeypatch.setattr("caffecompat.data.codec.images._PIXELS_PER_BYTE", 1)
    monkeypatch.setattr("caffecompat.data.codec.images.MAX_PIXELS", 3600)
    plain = np.full((60, 60, 3), 40, np.uint8)
    with pytest.raises(DataError, match=r"bytes may have; scale it down or encode it again$"):
        decode_image(png(plain), "color")
    for content in (png(cv2.resize(plain, (10, 10))), png(plain, 0)):
        found = decode_image(content, "color")
        assert found is not None
        assert (found == 40).all()
    # No file may have as many as these.
    larger = np.full((61, 60, 3), 40, np.uint8)
    for content in (png(larger), png(larger, 0)):
        with pytest.raises(DataError, match=r"bytes may have; scale it down$"):
            decode_image(content, "color")
    assert decode_image(png(cv2.resize(larger, (10, 10))), "color") is not None


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes with an image each, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cat", "dog")):
        Path("images", name).mkdir(parents=True)
        pixels = np.full((6, 8, 3), 50 * number, np.uint8)
        Path("images", name, f"{number}.png").write_bytes(png(pixels))


def test_the_root_of_a_list(images: None, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["dataset", "list", "images", "list.txt", "--root"]
    assert main([*command, "elsewhere/"]) == 1
    words = "images: the folder does not begin with the root 'elsewhere/'; correct --root"
    assert words in capsys.readouterr().err
    assert main([*command, "images/"]) == 0
    assert Path("list.txt").read_text() == "cat/0.png 0\ndog/1.png 1\n"
    assert main(["convert-imageset", "images/", "list.txt", "db"]) == 0


def test_the_root_of_images(images: None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.txt").write_text("0.png 0\n1.png 1\n")
    Path("right.txt").write_text("cat/0.png 0\ndog/1.png 1\n")
    Path("cats.txt").write_text("0.png 0\n")
    assert main(["convert-imageset", "images/", "list.txt", "db"]) == 1
    words = f"ROOT is the prefix of the names, from {Path.cwd()}; correct ROOT or the list"
    assert words in capsys.readouterr().err
    assert main(["convert-imageset", "images/", "right.txt", "db"]) == 0
    assert main(["convert-imageset", "images/", "cats.txt", "db2"]) == 1
    assert words in capsys.readouterr().err
    assert main(["convert-imageset", "images/cat/", "cats.txt", "db2"]) == 0


@pytest.mark.parametrize("channels", [2, 5])
def test_records_that_image_files_cannot_store(
    channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, other = datum(np.ones((3, 4, 5), np.uint8)), datum(np.ones((channels, 4, 5), np.uint8))
    database = write_records(tmp_path / "mixed", [image, other])
    assert main(["dataset", "export", database, str(tmp_path / "out")]) == 1
    words = f"it has {channels} channels, which image files cannot store; export only images"
    assert words in capsys.readouterr().err
    shutil.rmtree(database)
    database = write_records(tmp_path / "mixed", [image])
    assert main(["dataset", "export", database, str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 1


def test_bounds_in_the_wrong_order(tmp_path: Path) -> None:
    database = write_records(tmp_path / "db", [datum(np.ones((3, 9, 9), np.uint8))])

    def run(lower: int, upper: int) -> None:
        net(
            "layer { name: 'one' type: 'Data' top: 'data' "
            f"data_param {{ source: '{database}' backend: LMDB batch_size: 1 }} transform_param {{ "
            f"img_rand_resize_lower: {lower} img_rand_resize_upper: {upper} crop_size: 5 "
            "vertical_stretch_lower: 0.9 vertical_stretch_upper: 1.1 } }",
            phase="train",
        ).forward()

    words = "img_rand_resize_lower 8 is above img_rand_resize_upper 6; exchange them"
    with pytest.raises(CaffeError) as caught:
        run(8, 6)
    assert words in str(caught.value)
    run(6, 8)


def test_gray_and_colour_images_of_several_sizes(tmp_path: Path) -> None:
    contents = [np.ones((6, 8, 3), np.uint8), np.ones((7, 9), np.uint8)]

    def run(batch: int, transform: str, values: list[np.ndarray] = contents) -> tuple[int, ...]:
        path = tmp_path / f"db{len(list(tmp_path.iterdir()))}"
        write_records(path, [encoded_datum(png(value)) for value in values])
        built = net(
            "layer { name: 'one' type: 'Data' top: 'data' data_param { "
            f"source: '{path}' backend: LMDB batch_size: {batch} }} "
            f"transform_param {{ {transform} }} }}"
        )
        built.forward()
        return tuple(built.blobs["data"].shape)

    words = (
        "use batch_size 1, one size for all images, or crop_size (and force_color where gray and "
        "colour are mixed)"
    )
    for refused in ("", "crop_size: 4", "force_color: true"):
        with pytest.raises(CaffeError) as caught:
            run(2, refused)
        assert words in str(caught.value)
    assert run(1, "") == (1, 3, 6, 8)
    assert run(2, "crop_size: 4 force_color: true") == (2, 3, 4, 4)
    assert run(2, "", [contents[0], contents[0]]) == (2, 3, 6, 8)
