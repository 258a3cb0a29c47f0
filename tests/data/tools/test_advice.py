"""What the verbs that make databases advise, followed to the letter, makes them succeed."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.codec.images import encode_image
from tests.commands import Run, refused, verb_runner
from tests.net.nets import net


def write_image(path: str, height: int = 8, width: int = 10) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(3 * height * width, dtype=np.uint8).reshape(height, width, 3)
    Path(path).write_bytes(encode_image(pixels, "png"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb beside a folder of images and its list; returns its error, "" on success."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cat/a", "cat/b", "dog/c")):
        write_image(f"images/{name}.png", 8 + number, 10)
    Path("list.txt").write_text("cat/a.png 0\ncat/b.png 0\ndog/c.png 1\n")
    Path("words.txt").write_text("cat/a.png cat\ncat/b.png cat\ndog/c.png dog\n")
    Path("labels.txt").write_text("cat\ndog\n")
    return verb_runner(capfd)


@pytest.mark.parametrize(
    ("bad", "words", "remedies"),
    [
        (
            "images/ words.txt db --number-labels --labels labels.txt",
            "labels exclude each other; give one",
            ["images/ words.txt db --number-labels", "images/ words.txt db --labels labels.txt"],
        ),
        (
            "images/ db --number-labels",
            "the sub-folders are the classes; leave them out, or give a list",
            ["images/ db", "images/ words.txt db --number-labels"],
        ),
        (
            "images/ words.txt db",
            "takes it with --number-labels, which numbers the words in alphabetical order, or with "
            "--labels FILE, one word per line, the first for label 0",
            ["images/ words.txt db --number-labels", "images/ words.txt db --labels labels.txt"],
        ),
        (
            "images/ list.txt db --min-side 4 --resize_width 4 --resize_height 4",
            "resize_width and resize_height do not; give one kind",
            [
                "images/ list.txt db --min-side 4",
                "images/ list.txt db --resize_width 4 --resize_height 4",
            ],
        ),
        (
            "images/ list.txt db --check_size",
            "give resize_width and resize_height, or leave out check_size",
            [
                "images/ list.txt db --check_size --resize_width 4 --resize_height 4",
                "images/ list.txt db",
            ],
        ),
        (
            "images/ images db",
            "give no list: caffecompat convert-imageset FOLDER/ DB",
            ["images/ db"],
        ),
        (
            "images/cat/ db",
            "it has no sub-folders, so there are no classes; give a list of images, or put",
            ["images/ list.txt db", "images/ db"],
        ),
    ],
)
def test_convert_imageset(run: Run, bad: str, words: str, remedies: list[str]) -> None:
    assert words in run(f"convert-imageset {bad}")
    for number, good in enumerate(remedies):
        target = f"db{number}"
        command = " ".join(target if word == "db" else word for word in good.split())
        assert not run(f"convert-imageset {command}")
        assert Path(target, "data.mdb").exists()


def test_resume_or_overwrite(run: Run) -> None:
    command = "convert-imageset images/ list.txt db"
    words = "resume continues an unfinished database, overwrite deletes it; give one"
    assert words in run(f"{command} --resume --overwrite")
    assert not run(f"{command} --resume")
    assert not run("convert-imageset images/ list.txt other --overwrite")


def test_a_missing_image(run: Run) -> None:
    Path("images/cat/b.png").unlink()
    command = "convert-imageset images/ list.txt db --on-error fail"
    words = "replace it, or leave such images out with: --on-error skip"
    assert words in run(command)
    assert not run(command.replace("fail", "skip") + " --overwrite")
    write_image("images/cat/b.png")
    assert not run(command.replace("db", "replaced"))


def test_an_output_that_exists(run: Run) -> None:
    command = "convert-imageset images/ list.txt"
    assert not run(f"{command} db")
    words = "results are only written to a new path; give another name or remove it first"
    assert words in run(f"{command} db")
    assert not run(f"{command} another")
    Path("db").rename("removed")
    assert not run(f"{command} db")


def test_compute_image_mean(run: Run) -> None:
    assert not run("convert-imageset images/ list.txt db")
    words = "convert the images with --resize_width and --resize_height"
    assert words in run("compute-image-mean db mean.binaryproto")
    assert not run("convert-imageset images/ list.txt resized --resize_width 8 --resize_height 8")
    assert not run("compute-image-mean resized mean.binaryproto")


def test_resize_and_crop(run: Run) -> None:
    words = "holds the images themselves; give another output_folder"
    Path("names.txt").write_text("cat/a.png\n")
    command = "resize-and-crop-images --input-folder images --output-folder {} "
    command += "--output-side-length 6 --input names.txt"
    assert words in run(command.format("images"))
    assert not run(command.format("out"))


def test_a_sample_of_a_database(run: Run) -> None:
    assert not run("convert-imageset images/ list.txt db")
    words = "4 records were requested, it has 3; give a number from 1 to that"
    assert words in run("dataset sample db out --count 4")
    for count in (1, 3):
        assert not run(f"dataset sample db out{count} --count {count}")


def test_mnist(run: Run) -> None:
    Path("images").rename("pictures")
    pixels = struct.pack(">IIII", 2051, 2, 4, 4) + bytes(32)
    Path("images.gz").write_bytes(gzip.compress(pixels))
    for count in (2, 3):
        Path(f"labels{count}").write_bytes(struct.pack(">II", 2049, count) + bytes(count))
    assert "there is no such file; give images.gz" in run("convert-mnist-data images labels2 db")
    assert not run("convert-mnist-data images.gz labels2 db")
    words = "give two files that belong together"
    assert words in run("convert-mnist-data images.gz labels3 other")
    assert not run("convert-mnist-data images.gz labels2 other")


def test_box_files(run: Run) -> None:
    Path("xml").mkdir()
    text = (
        "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax>"
        "<ymax>6</ymax></bndbox></object></annotation>"
    )
    command = "convert-boxes xml labels.txt boxes.txt"
    Path("xml/a b.xml").write_text(text)
    words = "names in a box list have no spaces; rename the file and its image"
    assert words in run(command)
    Path("xml/a b.xml").rename("xml/a.xml")
    assert not run(command)
    Path("xml/a.xml").write_text(f"<!DOCTYPE annotation>{text}")
    command = command.replace("boxes.txt", "again.txt")
    assert "may define entities without end; remove it" in run(command)
    Path("xml/a.xml").write_text(text)
    assert not run(command)


def test_annotated_images_of_several_sizes(run: Run) -> None:
    Path("map.txt").write_text("item { name: 'none' label: 0 } item { name: 'cat' label: 1 }")
    Path("annotated.txt").write_text("cat/a.png a.xml\ncat/b.png b.xml\n")
    command = "convert-annoset images/ annotated.txt %s --anno_type detection --label_type xml "
    command += "--label_map_file map.txt "
    words = "give resize_width and resize_height, or leave out check_size"
    assert words in run(command % "db" + "--check_size")
    assert not run(command % "resized" + "--check_size --resize_width 4 --resize_height 4")
    assert not run(command % "unchecked")


def test_a_database_of_the_other_backend(run: Run) -> None:
    assert not run("convert-imageset images/ list.txt db --resize_width 8 --resize_height 8")
    text = (
        "layer { name: 'data' type: 'Data' top: 'data' data_param { source: 'db' batch_size: 2 "
        "backend: %s } }"
    )
    refused(lambda: net(text % "LEVELDB").forward(), "write 'backend: LMDB'")
    net(text % "LMDB").forward()


def test_cifar(run: Run) -> None:
    Path("binary").mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        Path(f"binary/{name}.bin").write_bytes(bytes(3073))
    Path("binary/data_batch_2.bin").write_bytes(bytes(3000))
    command = "convert-cifar-data binary out"
    assert "it is cut off, or not the binary version of cifar10" in run(command)
    Path("binary/data_batch_2.bin").write_bytes(bytes(3073))
    assert not run(command)
