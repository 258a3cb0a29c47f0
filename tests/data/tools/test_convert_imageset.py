"""convert_imageset against the databases that Caffe's tool wrote, and its own promises."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.sources.image_lists.image_list import read_list
from caffecompat.data.tools import convert_imageset as module
from caffecompat.data.tools.convert_imageset import convert_imageset
from caffecompat.data.tools.imageset_settings import ImagesetSettings
from caffecompat.errors import DataError, FileProblem, UnknownName
from tests.places import COPIES
from tests.recorded.tolerances import IMAGE_LEVELS
from tests.sentences import assert_one_sentence

DATA = COPIES / "data"

COPIED = json.loads((DATA / "db" / "facts.json").read_text())["databases"]
# How the databases of the full set of recordings were made: name -> list and flags.
RECORDED: dict[str, tuple[str, dict[str, Any]]] = {
    "encode_jpg_lmdb": ("eqcolor.txt", {"encode_type": "jpg"}),
    "encode_png_lmdb": ("eqjpg.txt", {"encode_type": "png"}),
    "deep_lmdb": ("deep.txt", {}),
    "encoded_resized_lmdb": (
        "mix.txt",
        {"encoded": True, "resize_width": 9, "resize_height": 11},
    ),
    "gray_encode_png_resized_lmdb": (
        "mix.txt",
        {"gray": True, "encode_type": "png", "resize_width": 10, "resize_height": 10},
    ),
    "gray_encoded_lmdb": ("eq.txt", {"gray": True, "encoded": True}),
    "gray_lmdb": ("eq.txt", {"gray": True}),
    "resize_lmdb": ("mix.txt", {"resize_width": 13, "resize_height": 9}),
    "resize_one_lmdb": ("mix.txt", {"resize_width": 13}),
    "rgba_encoded_lmdb": ("rgba.txt", {"encoded": True}),
    "special_encoded_lmdb": ("special.txt", {"encoded": True}),
    "special_lmdb": ("special.txt", {}),
}
# Encoders and the resizer may change between versions of OpenCV; what they yield is compared.
REMADE = ("encode_", "resize", "gray")


def compare(made: Path, recorded: Path, exact: bool) -> None:
    """Hold a new database against one that Caffe's tool wrote."""
    with open_database(made) as found, open_database(recorded) as expected:
        assert list(found.keys()) == list(expected.keys())
        for index in range(len(expected)):
            value, wanted = found.read(index)[1], expected.read(index)[1]
            if exact:
                assert value == wanted
                continue
            datum, caffes = parse_datum(value), parse_datum(wanted)
            assert (datum.label, datum.encoded) == (caffes.label, caffes.encoded)
            assert datum.HasField("channels") == caffes.HasField("channels")
            pixels, theirs = decode_datum(datum).astype(int), decode_datum(caffes).astype(int)
            assert pixels.shape == theirs.shape
            np.testing.assert_allclose(pixels, theirs, rtol=0, atol=IMAGE_LEVELS)


@pytest.mark.parametrize(
    "name", ["plain_lmdb", "mixed_lmdb", "pairs_lmdb", "square_lmdb", "encoded_lmdb"]
)
def test_copied_databases(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    facts = COPIED[name]
    settings = ImagesetSettings(
        encoded="--encoded" in facts["flags"], check_size="--check_size" in facts["flags"]
    )
    count = convert_imageset("images/", facts["list"], str(tmp_path / "db"), settings)
    assert count.records == len(facts["records"])
    # JPEGs among the raw ones are decoded here.
    exact = name in ("pairs_lmdb", "square_lmdb", "encoded_lmdb")
    compare(tmp_path / "db", DATA / "db" / name, exact)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_databases(
    name: str, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(golden / "data")
    source, settings = RECORDED[name]
    convert_imageset("images/", source, str(tmp_path / "db"), ImagesetSettings(**settings))
    exact = not any(word in name for word in REMADE)
    compare(tmp_path / "db", golden / "data" / "db" / name, exact)


def test_odd_lines_and_unreadable_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(DATA)
    with caplog.at_level(logging.INFO):
        assert convert_imageset("images/", "odd.txt", str(tmp_path / "db")).records == 5
    compare(tmp_path / "db", DATA / "db" / "odd_lmdb", exact=False)
    lines = {
        level: [r.getMessage() for r in caplog.records if r.levelno == level]
        for level in (20, 30, 40)
    }
    assert lines[logging.ERROR] == COPIED["odd_lmdb"]["errors"]
    assert lines[logging.INFO] == [
        "A total of 8 images.",
        "Expected size: about 5.1 kB (5 records of 975 bytes, measured on 5)",
        f"Opened lmdb {tmp_path / 'db'}",
        "Processed 5 files.",
    ]
    assert lines[logging.WARNING] == [
        "odd.txt: 4 labels are not whole numbers (the first is 'eq1.png' in line 3); "
        "only their leading digits are used, or 0 without any",
        "3 of 8 images could not be read and were left out",
    ]


@pytest.mark.parametrize(
    ("line", "name", "label"),
    [
        (b"a b.png 7", b"a b.png", 7),
        (b"a.png 7 ", b"a.png 7", 0),
        (b"a.png\t7", b"a.png\t7", 0),
        (b"a.png 12abc", b"a.png", 12),
        (b"a.png 0x10", b"a.png", 0),
        (b"a.png 2.9", b"a.png", 2),
        (b"a.png -4\r", b"a.png", -4),
        (b"a.png +5", b"a.png", 5),
        (b"a.png \t6", b"a.png", 6),
        (b"a.png 4294967297", b"a.png", 1),
        (b"12.png", b"12.png", 12),
        (b"", b"", 0),
        (b"\xff\xfe.png 3", b"\xff\xfe.png", 3),
    ],
)
def test_a_line_is_a_name_and_a_label(tmp_path: Path, line: bytes, name: bytes, label: int) -> None:
    (tmp_path / "list").write_bytes(b"first 1\n" + line + b"\nlast 9")
    entries = read_list(str(tmp_path / "list"))
    assert [(entry.name, entry.label) for entry in entries] == [
        (b"first", 1),
        (name, label),
        (b"last", 9),
    ]


def test_clean_labels_are_not_remarked_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "list").write_bytes(b"a 1\nb -2\nc +3\n")
    assert len(read_list(str(tmp_path / "list"))) == 3
    assert caplog.messages == []


def write_images(folder: Path, count: int, extension: str = "png") -> str:
    """Images of one colour each, with a byte after their end, and their list."""
    for number in range(count):
        encoded = cv2.imencode(f".{extension}", np.full((3, 5, 3), number, np.uint8))[1]
        (folder / f"{number}.{extension}").write_bytes(bytes(encoded) + b"\n")
    path = folder / "list.txt"
    path.write_text("".join(f"{number}.{extension} {number}\n" for number in range(count)))
    return str(path)


def records(path: Path) -> list[tuple[str, Any]]:
    with open_database(path) as database:
        pairs = [database.read(index) for index in range(len(database))]
    return [(key.decode(), parse_datum(value)) for key, value in pairs]


def test_shuffling_is_a_pure_function_of_the_seed(tmp_path: Path) -> None:
    source = write_images(tmp_path, 40)
    labels = []
    for run, seed in enumerate((1, 2, 1)):
        settings = ImagesetSettings(shuffle=True, seed=seed)
        convert_imageset(f"{tmp_path}/", source, str(tmp_path / f"db{run}"), settings)
        made = records(tmp_path / f"db{run}")
        # Keys count in the new order and hold the image's own name.
        assert [key for key, _ in made] == [
            f"{n:08d}_{d.label}.png" for n, (_, d) in enumerate(made)
        ]
        labels.append([datum.label for _, datum in made])
    assert sorted(labels[0]) == list(range(40))
    assert labels[0] != labels[1]
    assert labels[0] == labels[2]


def test_more_records_than_one_commit_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_RECORDS_PER_COMMIT", 7)
    source = write_images(tmp_path, 31)
    seen: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO):
        settings = ImagesetSettings(check_size=True)
        convert_imageset(
            f"{tmp_path}/", source, str(tmp_path / "db"), settings, lambda *at: seen.append(at)
        )
    assert [datum.label for _, datum in records(tmp_path / "db")] == list(range(31))
    assert seen == [(10, 31), (20, 31), (30, 31), (31, 31)]
    assert [line for line in caplog.messages if "Processed" in line] == [
        f"Processed {count} files." for count in (7, 14, 21, 28, 31)
    ]


@pytest.mark.parametrize(
    ("extension", "encode_type", "kept"),
    [("jpg", "", True), ("jpg", "JPEG", True), ("jpg", "png", False), ("png", "PNG", True)],
)
def test_encoded_images_keep_their_bytes_if_the_extension_matches(
    tmp_path: Path, extension: str, encode_type: str, kept: bool
) -> None:
    source = write_images(tmp_path, 2, extension)
    settings = ImagesetSettings(gray=True, encoded=not encode_type, encode_type=encode_type)
    convert_imageset(f"{tmp_path}/", source, str(tmp_path / "db"), settings)
    original = (tmp_path / f"1.{extension}").read_bytes()
    _, datum = records(tmp_path / "db")[1]
    assert (datum.data == original) == kept
    assert datum.encoded


def test_one_size_alone_resizes_nothing_but_encodes_anew(tmp_path: Path) -> None:
    source = write_images(tmp_path, 1, "jpg")
    settings = ImagesetSettings(encoded=True, resize_height=9)
    convert_imageset(f"{tmp_path}/", source, str(tmp_path / "db"), settings)
    ((_, datum),) = records(tmp_path / "db")
    assert datum.data != (tmp_path / "0.jpg").read_bytes()
    assert decode_datum(datum).shape == (3, 3, 5)


@pytest.mark.parametrize(
    ("source", "settings", "kind", "sentence"),
    [
        ("mix.txt", {"check_size": True}, DataError, "mix1.png.*759 bytes.* first record has 378"),
        ("eqjpg.txt", {"check_size": True, "encoded": True}, DataError, "encoded images have no"),
        ("eq.txt", {"encode_type": "nosuch"}, DataError, "eq0.png: .*encoded as 'nosuch'"),
        ("eq.txt", {"backend": "sqlite"}, UnknownName, "'sqlite'.*LMDB"),
        ("nosuch.txt", {}, FileProblem, "nosuch.txt: there is no such file"),
        ("/dev/null", {}, FileProblem, "is a device, expected a file"),
    ],
)
def test_what_cannot_be_converted_leaves_nothing(
    source: str,
    settings: dict[str, Any],
    kind: type[Exception],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(DATA)
    with pytest.raises(kind, match=sentence) as caught:
        convert_imageset("images/", source, str(tmp_path / "db"), ImagesetSettings(**settings))
    assert_one_sentence(str(caught.value))
    assert os.listdir(tmp_path) == []


def test_an_existing_database_is_not_touched(tmp_path: Path) -> None:
    source = write_images(tmp_path, 2)
    convert_imageset(f"{tmp_path}/", source, str(tmp_path / "db"))
    before = (tmp_path / "db" / "data.mdb").read_bytes()
    with pytest.raises(FileProblem, match="db: already exists"):
        convert_imageset(f"{tmp_path}/", source, str(tmp_path / "db"))
    assert (tmp_path / "db" / "data.mdb").read_bytes() == before
