"""Lists that do not fit their images: refused with the cause, and the advice followed."""

from __future__ import annotations

import logging
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.sources.image_lists.image_list import read_list
from caffecompat.data.sources.image_lists.image_samples import ImageSamples
from caffecompat.data.tools.convert_imageset import convert_imageset
from caffecompat.data.tools.imageset_settings import ImagesetSettings
from caffecompat.errors import CaffeError, DataError
from tests.sentences import assert_one_sentence

NAMES = ["cat/1 a.jpg", "cat/2.jpg", "dog/3.jpg"]


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images in two folders, in the current directory."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        path = Path("images") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((8, 10, 3), 50 * number, np.uint8))


def write(text: str) -> None:
    Path("list.txt").write_bytes(text.encode())


def convert(root: str = "images/", source: str = "list.txt", **settings: Any) -> list[int]:
    convert_imageset(root, source, "db", ImagesetSettings(**settings))
    with open_database("db") as database:
        return [parse_datum(database.read(n)[1]).label for n in range(len(database))]


def refused(root: str = "images/", source: str = "list.txt", **settings: Any) -> str:
    """The message; nothing is left."""
    before = sorted(os.listdir())
    with pytest.raises(CaffeError) as caught:
        convert_imageset(root, source, "db", ImagesetSettings(**settings))
    assert sorted(os.listdir()) == before
    assert_one_sentence(str(caught.value))
    return str(caught.value)


PLAIN = "".join(f"{name} {label}\n" for label, name in enumerate(NAMES))


@pytest.mark.parametrize(
    ("root", "cause", "mended"),
    [
        ("images", "did you mean images/ ?", "images/"),
        ("pictures/", "there is no folder pictures/", "images/"),
    ],
)
def test_a_root_that_is_wrong(root: str, cause: str, mended: str) -> None:
    write(PLAIN)
    message = refused(root)
    assert "none of its 3 images exists" in message
    assert cause in message
    assert convert(mended) == [0, 1, 2]


def test_names_that_have_their_folder_already() -> None:
    write("".join(f"images/{name} 4\n" for name in NAMES))
    assert "did you mean ./ in place of images/ ?" in refused()
    assert convert("./") == [4, 4, 4]


def test_absolute_names(tmp_path: Path) -> None:
    write("".join(f"{tmp_path}/images/{name} 4\n" for name in NAMES))
    assert "did you mean / in place of images/ ?" in refused()
    assert convert("/") == [4, 4, 4]


def test_a_root_beside_the_list() -> None:
    os.rename("images", "images2")
    os.makedirs("set")
    os.rename("images2", "set/images")
    write(PLAIN)
    os.rename("list.txt", "set/list.txt")
    assert "did you mean set/images/ ?" in refused(source="set/list.txt")
    assert convert("set/images/", "set/list.txt") == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (PLAIN.replace(" 0", "\t0").replace(" 1\n", "\t1\n").replace(" 2", "\t2"), "with a tab"),
        ("cat/2.jpg,1\ndog/3.jpg,2\n", "with a comma"),
        ("cat/2.jpg 1 \ndog/3.jpg 2 \n", "with a space at its end"),
        ("1 cat/2.jpg\n2 dog/3.jpg\n", "with the label before the name"),
        ("cat\\2.jpg 1\ndog\\3.jpg 2\n", "the names have backslashes"),
    ],
)
def test_the_command_that_the_message_gives_mends_the_list(text: str, cause: str) -> None:
    write(text)
    message = refused()
    assert cause in message
    found = re.search(r": ((?:tr|sed|awk) .* > (\S+))", message)
    assert found is not None
    subprocess.run(found[1], shell=True, check=True)
    labels = convert(source=found[2])
    assert labels == ([0, 1, 2] if len(labels) == 3 else [1, 2])


def test_a_tab_after_a_name_that_begins_with_digits() -> None:
    """Caffe's rule takes those digits for the label."""
    os.rename("images/cat/2.jpg", "images/0002.jpg")
    write("0002.jpg\t7\n")
    assert "with a tab before the label, expected one space" in refused()


def test_words_as_labels() -> None:
    write("".join(f"{name} {name[:3]}\n" for name in NAMES[::-1]))
    message = refused()
    assert "3 of 3 lines do not end in a number" in message
    assert "whose label is a word" in message
    assert "--number-labels" in message
    arguments = ["convert-imageset", "images/", "list.txt", "db"]
    assert main([*arguments, "--number-labels"]) == 0
    assert Path("db.labels.txt").read_text() == "cat\ndog\n"
    # The same numbering for another list: the words of one class less keep their numbers.
    write("dog/3.jpg dog\n")
    assert main([*arguments[:3], "other", "--labels", "db.labels.txt"]) == 0
    with open_database("other") as database:
        assert parse_datum(database.read(0)[1]).label == 1
    write("dog/3.jpg dgo\n")
    with pytest.raises(DataError, match=r"line 1: there is no class 'dgo'; did you mean 'dog'"):
        convert_imageset("images/", "list.txt", "x", ImagesetSettings(labels="db.labels.txt"))


def test_no_labels() -> None:
    write("".join(f"{name}\n" for name in NAMES[1:]))
    assert "--no-labels" in refused()
    assert convert(no_labels=True) == [0, 0]


def test_names_that_begin_with_numbers_are_no_labels() -> None:
    write("1.jpg\n2.jpg\n")
    assert "line 1 is '1.jpg', which has no label" in refused()


def test_a_few_odd_labels_are_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    write("cat/2.jpg 1\ndog/3.jpg dog\n")
    assert convert() == [1, 0]
    assert "1 labels are not whole numbers (the first is 'dog' in line 2)" in caplog.text


def test_lines_that_end_as_on_windows(caplog: pytest.LogCaptureFixture) -> None:
    write(PLAIN.replace("\n", "\r\n"))
    assert convert() == [0, 1, 2]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_files_that_are_no_images() -> None:
    write(PLAIN)
    for name in NAMES:
        (Path("images") / name).write_bytes(b"no image")
    message = refused()
    assert "none of its 3 images can be read (the first is images/cat/1 a.jpg)" in message


def test_an_empty_list_makes_nothing() -> None:
    write("")
    assert "there are no images in it" in refused()
    for name in NAMES:
        (Path("images") / name).unlink()
    with pytest.raises(DataError, match="images/: there are no images in it"):
        convert_imageset("images/", None, "db")
    assert sorted(os.listdir()) == ["images", "list.txt"]


def test_image_data_with_labels_refuses_words_and_without_takes_names() -> None:
    from caffecompat.net import Net
    from caffecompat.proto.text.parser import parse_text

    text = (
        "layer { name: 'd' type: 'ImageData' top: 'data' TOP image_data_param { source: 'list.txt' "
        "root_folder: 'images/' batch_size: 1 } }"
    )
    write("cat/2.jpg\ndog/3.jpg\n")
    assert Net(parse_text(text.replace("TOP", ""), "NetParameter")[0]).run(0).outputs
    with pytest.raises(DataError, match=r"layer 'd' \(ImageData\): .*has no label"):
        Net(parse_text(text.replace("TOP", "top: 'label'"), "NetParameter")[0])


def test_read_list_says_how_many_labels_are_wrong() -> None:
    write("a x\nb y\nc 3\n")
    with pytest.raises(DataError, match="2 of 3 lines do not end in a number: line 1 is 'a x'"):
        read_list("list.txt")
    assert [entry.label for entry in read_list("list.txt", labelled=False)] == [0, 0, 3]


def test_the_size_is_said_before_writing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caffecompat.data.backends import expected_size

    noise = np.random.default_rng(0).integers(0, 40, (300, 400, 3)).astype(np.uint8)
    for name in NAMES:
        assert cv2.imwrite(f"images/{name}", cv2.GaussianBlur(noise, (15, 15), 0))
    write(PLAIN * 40)
    monkeypatch.setattr(expected_size, "_MIN_WARNED_BYTES", 10_000_000)
    free = os.statvfs(".").f_bavail
    monkeypatch.setattr(
        expected_size.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 30_000_000})
    )
    with caplog.at_level(logging.INFO):
        convert_imageset("images/", "list.txt", "db")
    assert free
    messages = caplog.messages
    opened = next(n for n, line in enumerate(messages) if line.startswith("Opened"))
    (size,) = [line for line in messages[:opened] if line.startswith("Expected size: about 43.")]
    # What was said is what was written.
    assert "120 records of 360.0 kB, measured on" in size
    assert abs(os.path.getsize("db/data.mdb") / 43.4e6 - 1) < 0.05
    warnings = [record.getMessage() for record in caplog.records if record.levelno == 30]
    assert re.match(r"raw pixels take \d+ times as much as the image files.*--encoded", warnings[0])
    assert "the disk has 30.0 MB free, which will not be enough" in warnings[1]


def test_images_of_other_channels_amid_rescaled_ones_are_encoded_anew() -> None:
    """A gray file that has the size already would be the one record that does not fit a net."""
    assert cv2.imwrite("images/cat/2.jpg", np.full((8, 10), 9, np.uint8))
    write(PLAIN)
    convert_imageset("images/", "list.txt", "db", ImagesetSettings(encoded=True, min_side=8))
    with open_database("db") as database:
        shapes = [decode_datum(parse_datum(database.read(n)[1])).shape for n in range(3)]
        kept = parse_datum(database.read(0)[1]).data
    assert shapes == [(3, 8, 10)] * 3
    assert kept == Path("images/cat/1 a.jpg").read_bytes()


def test_very_long_names_are_shortened_in_messages(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = "x" * 200_000
    path = tmp_path / "list.txt"
    image = tmp_path / "a.png"
    assert cv2.imwrite(str(image), np.zeros((4, 4, 3), np.uint8))
    path.write_text(f"a.png 0\n{long}.png 1\n")
    with pytest.raises(DataError, match=r"xxx\.\.xxx") as caught:
        convert_imageset(
            f"{tmp_path}/", str(path), str(tmp_path / "one"), ImagesetSettings(on_error="fail")
        )
    assert len(str(caught.value)) < 1000
    convert_imageset(f"{tmp_path}/", str(path), str(tmp_path / "two"), ImagesetSettings())
    assert all(len(text) < 1000 for text in caplog.messages)
    samples = ImageSamples(str(path), read_list(str(path)))
    assert len(samples.locate(samples.fetch(1))) < 1000
    path.write_text(f"{long}.png 1\n")
    with pytest.raises(DataError, match="none of its 1 images exists") as caught:
        convert_imageset(f"{tmp_path}/", str(path), str(tmp_path / "three"), ImagesetSettings())
    assert len(str(caught.value)) < 1000
