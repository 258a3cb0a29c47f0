"""convert-annoset: records, keys, sizes and annotation files as SSD's tool writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.annotated_datum import objects_of, parse_annotated_datum, parse_record
from caffecompat.data.codec.datum import decode_datum
from caffecompat.data.codec.images import encode_image
from caffecompat.data.tools.convert_annoset import AnnosetSettings, convert_annoset
from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.weights import read_mean

XML = """<annotation><size><width>40</width><height>20</height></size>
<object><name>cat</name><difficult>1</difficult><bndbox>
  <xmin>4</xmin><ymin>5</ymin><xmax>20</xmax><ymax>15</ymax></bndbox></object>
<object><name>dog</name><bndbox>
  <xmin>0</xmin><ymin>0</ymin><xmax>40</xmax><ymax>20</ymax></bndbox></object>
<object><name>cat</name><bndbox>
  <xmin>8</xmin><ymin>2</ymin><xmax>16</xmax><ymax>4</ymax></bndbox></object></annotation>"""
OBJECTS: list[list[float]] = [
    [2, 0, 0.1, 0.25, 0.5, 0.75, 1],
    [2, 1, 0.2, 0.1, 0.4, 0.2, 0],
    [1, 0, 0, 0, 1, 1, 0],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(encode_image(pixels, "png"))
    (tmp_path / "b.png").write_bytes(encode_image(pixels[:, ::-1], "png"))
    (tmp_path / "a.xml").write_text(XML)
    (tmp_path / "map.txt").write_text(
        "item { name: 'none' label: 0 } item { name: 'dog' label: 1 } item { name: 'cat' label: 2 }"
    )
    (tmp_path / "list.txt").write_text("a.png a.xml\nb.png b.xml\n")
    return tmp_path


def converted(folder: Path, listing: str = "list.txt", **values: Any) -> list[tuple[bytes, Any]]:
    settings = {"anno_type": "detection", "label_map_file": f"{folder}/map.txt", **values}
    names = (f"{folder}/", f"{folder}/{listing}", f"{folder}/db")
    convert_annoset(*names, AnnosetSettings(**settings))
    with open_database(folder / "db") as database:
        records = [database.read(i) for i in range(len(database))]
    return [(key, parse_annotated_datum(value)) for key, value in records]


def test_the_verbs_for_databases_know_its_records(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    converted(folder)
    assert main(["dataset", "info", "db"]) == 0
    said = capfd.readouterr().out
    assert re.search(r"3x20x40 +2 ", said)
    assert "boxes     3, in 2 records of convert-annoset" in said
    assert re.search(r"classes of boxes: 2 different, 1 to 2\n +2 +2 .*\n +1 +1 ", said)
    assert "labels" not in said
    assert main(["dataset", "verify", "db"]) == 0
    assert "2 records, 0 bad" in capfd.readouterr().out
    assert main(["compute-image-mean", "db", "mean.binaryproto"]) == 0
    pixels = [decode_datum(parse_record(value)[0]) for _, value in stored(folder / "db")]
    mean = read_mean("mean.binaryproto")
    np.testing.assert_allclose(mean, np.mean(pixels, 0), rtol=1e-6)
    assert main(["dataset", "show", "db", "sheet.png"]) == 0
    assert main(["dataset", "shuffle", "db", "other_lmdb"]) == 0
    assert sorted(v for _, v in stored(Path("other_lmdb"))) == sorted(
        v for _, v in stored(folder / "db")
    )
    capfd.readouterr()
    assert main(["dataset", "export", "db", "images"]) == 1
    assert "it is an AnnotatedDatum, an image with boxes" in capfd.readouterr().err


def stored(path: Path) -> list[tuple[bytes, bytes]]:
    with open_database(path) as database:
        return [database.read(i) for i in range(len(database))]


def rows(record: Any) -> list[list[float]]:
    found = objects_of(record).rows()[:, 1:]
    return [[round(float(v), 5) for v in row] for row in found]


def test_records_of_xml(folder: Path) -> None:
    (first_key, first), (second_key, second) = converted(folder)
    assert (first_key, second_key) == (b"00000000_a.png", b"00000001_b.png")
    assert rows(first) == OBJECTS
    assert [group.group_label for group in first.annotation_group] == [2, 1]
    # Without an annotation file there are no objects.
    assert rows(second) == []
    assert (first.HasField("type"), first.type, first.datum.label) == (True, 0, -1)
    assert not first.datum.encoded
    assert decode_datum(first.datum).shape == (3, 20, 40)


def test_encoded_records_keep_the_file(folder: Path) -> None:
    (_, first), _ = converted(folder, encoded=True)
    assert first.datum.encoded
    assert first.datum.data == (folder / "a.png").read_bytes()
    assert (first.datum.channels, first.datum.height, first.datum.width) == (3, 20, 40)


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"resize_width": 10, "resize_height": 30}, (30, 10)),
        ({"resize_width": 10}, (20, 40)),
        ({"min_dim": 30}, (30, 60)),
        ({"min_dim": 10}, (20, 40)),
        ({"max_dim": 20}, (10, 20)),
        ({"min_dim": 30, "max_dim": 50}, (25, 50)),
    ],
)
def test_sizes_leave_relative_boxes_alone(
    folder: Path, values: dict[str, Any], size: tuple[int, int]
) -> None:
    (_, first), _ = converted(folder, encode_type="png", **values)
    assert (first.datum.height, first.datum.width) == size
    assert decode_datum(first.datum).shape == (3, *size)
    assert rows(first) == OBJECTS


def test_records_of_text_and_json(folder: Path) -> None:
    (folder / "a.txt").write_text("2 4 5 20 15\n1 0 0 40 20\n2 8 2 16 4\n")
    (folder / "l.txt").write_text("a.png a.txt\n")
    (_, first), *_ = converted(folder, "l.txt", label_type="txt", label_map_file="")
    assert [row[:-1] for row in rows(first)] == [row[:-1] for row in OBJECTS]
    found: dict[str, Any] = {
        "image": {"height": 20, "width": 40},
        "annotation": [
            {"category_id": "cat", "bbox": [4, 5, 16, 10], "iscrowd": 1},
            {"category_id": "dog", "bbox": [0, 0, 40, 20]},
        ],
    }
    (folder / "a.json").write_text(json.dumps(found))
    (folder / "l.txt").write_text("a.png a.json\n")
    (folder / "db").rename(folder / "old")
    (_, first), *_ = converted(folder, "l.txt", label_type="json")
    assert rows(first) == [OBJECTS[0], OBJECTS[2]]


def test_labels_of_a_classification(folder: Path) -> None:
    (folder / "l.txt").write_text("a.png 7\nb.png 3\n")
    (_, first), _ = converted(folder, "l.txt", anno_type="classification")
    assert (first.datum.label, first.HasField("type")) == (7, False)


@pytest.mark.parametrize(
    ("name", "text", "error", "sentence"),
    [
        ("a.xml", XML.replace("dog", "cow"), DataError, "no class 'cow' in the label map"),
        ("a.xml", "<annotation", FormatError, "not well-formed"),
        ("a.xml", XML.replace(">8<", ">x<"), FormatError, "is not four numbers of pixels"),
        ("list.txt", "a.png\n", DataError, "line 1 is 'a.png', expected an image and its annot"),
        ("list.txt", "", DataError, "the list is empty"),
        ("list.txt", "c.png a.xml\n", DataError, "none of its 1 images exists"),
        ("list.txt", "map.txt a.xml\n", DataError, "none of its 1 images can be read"),
        ("map.txt", "item { label: 1 } item { label: 1 }", DataError, "two items have the label 1"),
    ],
)
def test_bad_input_leaves_no_database(
    folder: Path, name: str, text: str, error: type[Exception], sentence: str
) -> None:
    (folder / name).write_text(text)
    with pytest.raises(error, match=sentence):
        converted(folder)
    assert not (folder / "db").exists()


def test_images_that_cannot_be_read_are_left_out(folder: Path) -> None:
    (folder / "list.txt").write_text("c.png a.xml\na.png a.xml\n")
    assert [key for key, _ in converted(folder)] == [b"00000001_a.png"]


def test_command_with_flags_of_ssd(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        *("convert-annoset", "--anno_type=detection", f"--label_map_file={folder}/map.txt"),
        *("--check_label", "--encode_type=png", "--encoded", "--min_dim=0", "--shuffle"),
        *(f"{folder}/", f"{folder}/list.txt", f"{folder}/db"),
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{folder}/db: 2 images, 3 boxes\n"
    assert main(arguments) == 1
    with pytest.raises(FileProblem, match="exists"):
        converted(folder)
    # Before anything is read.
    with pytest.raises(FileProblem, match="exists"):
        converted(folder, "no list")
    assert main(["convert-annoset", "--label_type=csv", "a", "b", "c"]) == 2
