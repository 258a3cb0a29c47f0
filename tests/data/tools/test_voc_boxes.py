"""Annotations in XML, hostile ones among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.data.sources.objects.box_list import read_box_list
from tests.sentences import advised_limit, assert_one_sentence


def an_object(name: str, *corners: object) -> str:
    edges = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return f"<object><name>{name}</name><pose>x</pose><bndbox>{box}</bndbox></object>"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "xml" / "n01").mkdir(parents=True)
    (tmp_path / "classes.txt").write_text("cat\nn02 a dog\nbird\n")
    write("a", an_object("n02", 1, 2, 30, 40))
    return tmp_path


def write(name: str, content: str) -> None:
    Path(f"xml/{name}.xml").write_text(f"<annotation><size/>{content}</annotation>")


def convert(*flags: str) -> int:
    return main(["convert-boxes", "xml", "classes.txt", "boxes.txt", *flags])


def lines() -> list[str]:
    return Path("boxes.txt").read_text().splitlines()


def test_objects_of_a_class_share_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        "n01/b",
        an_object("bird", 1, 1, 2, 2)
        + an_object("cat", 5, 5, 6, 6)
        + an_object("bird", 7, 7, 8, 9),
    )
    write("n01/none", "")
    assert convert() == 0
    assert lines() == [
        "a.JPEG 1 1 2 30 40",
        "n01/b.JPEG 2 1 1 2 2 7 7 8 9",
        "n01/b.JPEG 0 5 5 6 6",
    ]
    out = capsys.readouterr().out
    assert "wrote boxes.txt: 3 lines, 4 boxes\n1 files without an object" in out
    assert len(read_box_list("boxes.txt")) == 3


def test_pixels_from_one_fractions_and_suffixes(folder: Path) -> None:
    write("a", an_object("cat", 1, " 2.6 ", 30, 40))
    assert convert("--one-based", "--suffix", ".jpg") == 0
    assert lines() == ["a.jpg 0 0 2 29 39"]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx">'
    + "".join(f'<!ENTITY x{n + 1} "{f"&x{n or str()};" * 10}">' for n in range(9))
    + "]><a><object><name>&x9;</name></object></a>"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "it has a document type (DOCTYPE)"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "it has a document type (DOCTYPE)"),
        ("<a>" * 100_000, "its elements are nested more than 32 deep"),
        ("", "it is not well-formed XML: no element found"),
        ("<a><b></a>", "it is not well-formed XML: mismatched tag"),
        ("\x00\x01", "it is not well-formed XML"),
        ('<?xml version="1.0" encoding="no-such"?><a/>', "it is not well-formed XML"),
        ("<a>&undefined;</a>", "it is not well-formed XML: undefined entity"),
        (an_object("Cat", 1, 1, 2, 2), "an object is a 'Cat', which is not a class; did you mean"),
        ("<object><name>cat</name></object>", "an object 'cat' has no bndbox"),
        (an_object("cat", 1, 1, 2, "x"), "ymax of a box is 'x', expected a number of pixels"),
        (an_object("cat", "1e999", 1, 2, 2), "xmin of a box is '1e999'"),
        (an_object("cat", "nan", 1, 2, 2), "xmin of a box is 'nan'"),
        (an_object("cat", -1, 1, 2, 2), "xmin of a box is '-1'"),
        (an_object("cat", 3, 1, 2, 2), "a box ends before it begins"),
    ],
)
def test_bad_annotations(
    text: str, sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("xml/n01/b.xml").write_text(text)
    assert convert() == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"xml/n01/b.xml: {sentence}" in error
    assert_one_sentence(error)
    assert not Path("boxes.txt").exists()


def test_bad_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert-boxes", "none", "classes.txt", "boxes.txt"]) == 1
    assert "none: the folder cannot be read" in capsys.readouterr().err
    Path("empty").mkdir()
    assert main(["convert-boxes", "empty", "classes.txt", "boxes.txt"]) == 1
    assert "empty: there are no files whose names end in .xml" in capsys.readouterr().err
    write("my image", "")
    assert convert() == 1
    assert "names in a box list have no spaces" in capsys.readouterr().err
    Path("xml/my image.xml").unlink()
    write("a", "")
    assert convert() == 1
    assert "none of its 1 XML files has an object" in capsys.readouterr().err


def test_a_list_is_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("boxes.txt").write_text("mine")
    assert convert() == 1
    assert "boxes.txt: already exists" in capsys.readouterr().err
    assert Path("boxes.txt").read_text() == "mine"


def test_large_files_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("a", "<!-- " + "x" * 5_000_000 + " -->" + an_object("cat", 1, 1, 2, 2))
    assert convert() == 1
    assert convert(*advised_limit(capsys.readouterr().err)) == 0
