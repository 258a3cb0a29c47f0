"""dataset export and list: image files of a database, and a list of image files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import encode_image
from caffecompat.data.tools.convert_imageset import convert_imageset
from tests.cli.datasets.records import Run, picture, records, write
from tests.data.databases import datum, encoded_datum


def test_export_and_convert_give_the_same_pixels_back(
    numbered: Path, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "images"
    code, out, _ = run("export", numbered, folder)
    assert (code, out) == (0, f"{folder}: 250 images and list.txt\n")
    convert_imageset(f"{folder}/", str(folder / "list.txt"), str(tmp_path / "again"))
    assert records(tmp_path / "again") == records(numbered)


def test_export_names(tmp_path: Path, run: Run) -> None:
    jpeg, png = encode_image(picture(1), "jpg"), encode_image(picture(2), "png")
    raw = datum(picture(3, (1, 5, 4)), 9)
    names = ["00000000_a/b c.JPEG", "00000001_../../out.jpg", "00000002_/root.jpg", "00000003_a\nb"]
    pairs = [(name, encoded_datum(jpeg, number)) for number, name in enumerate(names)]
    pairs += [("00000004_a/b c.JPEG", encoded_datum(jpeg, 4)), ("00000005_x.jpg", raw)]
    pairs += [("00000006_list.txt", encoded_datum(png, 6)), ("plain", encoded_datum(png, 7))]
    folder = tmp_path / "images"
    assert run("export", write(tmp_path / "db", pairs), folder)[0] == 0
    assert (folder / "list.txt").read_text().splitlines() == [
        "a/b c.JPEG 0",
        "00000001.jpg 1",
        "00000002.jpg 2",
        "00000003.jpg 3",
        "a/00000004_b c.JPEG 4",
        "x.png 9",
        "list.png 6",
        "plain.png 7",
    ]
    assert (folder / "a" / "b c.JPEG").read_bytes() == jpeg
    gray = cv2.imread(str(folder / "x.png"), cv2.IMREAD_UNCHANGED)
    assert gray is not None
    assert np.array_equal(gray[None], decode_datum(parse_datum(raw)))
    assert sorted(os.listdir(tmp_path)) == ["db", "images"]


def test_what_no_image_file_holds_is_named_and_leaves_nothing(mixed: Path, run: Run) -> None:
    code, _, err = run("export", mixed, mixed.with_name("images"))
    assert code == 1
    assert "record 3 (key '00000003'): it has float values, which image files cannot store" in err
    assert os.listdir(mixed.parent) == ["mixed"]


def test_a_list_of_a_folder_tree(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("images/dog/1.png", "images/cat/2.png", "images/cat/deep/3 4.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(name, picture(1))
    code, out, _ = run("list", "images", "made/list.txt")
    assert code == 0
    assert out == "made/list.txt: 3 images of 2 classes, named in made/list.txt.labels\n"
    assert Path("made/list.txt").read_text() == "cat/2.png 0\ncat/deep/3 4.png 0\ndog/1.png 1\n"
    assert Path("made/list.txt.labels").read_text() == "cat\ndog\n"
    assert convert_imageset("images/", "made/list.txt", "db").records == 3
    assert run("list", "images/", "other.txt", "--root", "")[0] == 0
    assert Path("other.txt").read_text().startswith("images/cat/2.png 0\n")
    code, _, err = run("list", "images", "other.txt")
    assert code == 1
    assert "other.txt: already exists" in err
    code, _, err = run("list", "images", "x.txt", "--root", "elsewhere/")
    assert "images: the folder does not begin with the root 'elsewhere/'" in err
