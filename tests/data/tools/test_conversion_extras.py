"""What convert-imageset does beyond Caffe's tool: sides, trees, errors, workers, resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database, resume_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.tools import convert_imageset as module
from caffecompat.data.tools.convert_imageset import convert_imageset
from caffecompat.data.tools.imageset_settings import ImagesetSettings
from caffecompat.errors import DataError, FileProblem
from tests.places import REPOSITORY
from tests.sentences import assert_one_sentence


def write_images(folder: Path, count: int, size: tuple[int, int] = (9, 14)) -> str:
    for number in range(count):
        pixels = np.full((*size, 3), 10 + number % 200, np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.jpg"), pixels)
    path = folder / "list.txt"
    path.write_text("".join(f"{number}.jpg {number}\n" for number in range(count)))
    return str(path)


def records(path: Path | str) -> dict[bytes, Any]:
    with open_database(path) as database:
        pairs = [database.read(index) for index in range(len(database))]
    return {key: parse_datum(value) for key, value in pairs}


def convert(source: str, target: Path, **settings: Any) -> module.Conversion:
    root = source.removesuffix("list.txt")
    return convert_imageset(root, source, str(target), ImagesetSettings(**settings))


@pytest.mark.parametrize(("side", "shape"), [(6, (3, 6, 9)), (9, (3, 9, 14)), (20, (3, 20, 31))])
def test_the_smallest_side(tmp_path: Path, side: int, shape: tuple[int, int, int]) -> None:
    source = write_images(tmp_path, 2)
    for name, encoded in (("raw", False), ("encoded", True)):
        convert(source, tmp_path / name, min_side=side, encoded=encoded)
        (_, datum) = list(records(tmp_path / name).items())[1]
        assert decode_datum(datum).shape == shape
        assert datum.encoded == encoded
    # An image that has the side already keeps its file's bytes.
    assert (datum.data == (tmp_path / "1.jpg").read_bytes()) == (side == 9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_side": 4, "resize_width": 3}, "give one kind"),
        ({"min_side": -1}, "min_side is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"on_error": "weep"}, "expected 'skip' or 'fail'"),
        ({"resume": True, "check_size": True}, "leave one out"),
        ({"resume": True, "overwrite": True}, "give one"),
        ({"no_labels": True, "number_labels": True}, "exclude each other"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    source = write_images(tmp_path, 1)
    with pytest.raises(DataError, match=words) as caught:
        convert(source, tmp_path / "db", **settings)
    assert_one_sentence(str(caught.value))
    assert not (tmp_path / "db").exists()


def test_the_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    source = write_images(tmp_path, 70)
    for workers in (1, 3):
        convert(source, tmp_path / f"db{workers}", workers=workers, min_side=5)
    assert records(tmp_path / "db1") == records(tmp_path / "db3")


def test_unreadable_images_are_reported_or_fatal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_images(tmp_path, 5)
    (tmp_path / "3.jpg").write_bytes(b"no image")
    (tmp_path / "1.jpg").unlink()
    result = convert(source, tmp_path / "db")
    assert (result.images, result.records, result.kept) == (5, 3, 0)
    assert result.unreadable == [f"{tmp_path}/1.jpg", f"{tmp_path}/3.jpg"]
    assert caplog.messages[-1] == "2 of 5 images could not be read and were left out"
    with pytest.raises(DataError, match=r"1\.jpg: the image is missing .* --on-error skip"):
        convert(source, tmp_path / "strict", on_error="fail")
    assert not (tmp_path / "strict").exists()
    assert not (tmp_path / "strict.unfinished").exists()


def test_a_folder_tree_with_its_label_map(tmp_path: Path) -> None:
    for name in ("n02", "n01"):
        (tmp_path / "train" / name).mkdir(parents=True)
        write_images(tmp_path / "train" / name, 2)
    database = tmp_path / "db"
    assert main(["convert-imageset", "--encoded", str(tmp_path / "train"), str(database)]) == 0
    found = records(database)
    assert [(key, datum.label) for key, datum in found.items()] == [
        (b"00000000_n01/0.jpg", 0),
        (b"00000001_n01/1.jpg", 0),
        (b"00000002_n02/0.jpg", 1),
        (b"00000003_n02/1.jpg", 1),
    ]
    assert (tmp_path / "db.labels.txt").read_text() == "n01\nn02\n"


def test_a_list_that_is_a_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert-imageset", "x/", str(tmp_path), str(tmp_path / "db")]) == 1
    assert "this is a folder, expected a list; to use" in capsys.readouterr().err


class Break(Exception):
    pass


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Makes the conversion of image number ``count`` fail."""
    real = module.image_record

    def record(root: str, entry: Any, settings: ImagesetSettings) -> Any:
        if entry is not None and entry.label == count:
            raise Break
        return real(root, entry, settings)

    monkeypatch.setattr(module, "image_record", record)
    monkeypatch.setattr(module, "_RECORDS_PER_COMMIT", 7)


def test_an_interrupted_conversion_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_images(tmp_path, 40)
    convert(source, tmp_path / "whole", shuffle=True)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 33)
        with pytest.raises(Break):
            convert(source, tmp_path / "db", shuffle=True)
    assert not (tmp_path / "db").exists()
    begun = records(tmp_path / "db.unfinished")
    assert 0 < len(begun) < 40
    assert len(begun) % 7 == 0
    assert any("continue with --resume" in line for line in caplog.messages)
    # Kept records are not made again: their images may even be gone.
    for datum in begun.values():
        (tmp_path / f"{datum.label}.jpg").unlink()
    result = convert(source, tmp_path / "db", shuffle=True, resume=True)
    assert (result.kept, result.records) == (len(begun), 40)
    assert records(tmp_path / "db") == records(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path / "db")) == ["data.mdb"]
    assert not (tmp_path / "db.unfinished").exists()
    assert not (tmp_path / "db.lock").exists()


def test_resuming_with_other_settings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_images(tmp_path, 40)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 31)
        with pytest.raises(Break):
            convert(source, tmp_path / "db")
    with pytest.raises(DataError, match="begun with another list or other settings") as caught:
        convert(source, tmp_path / "db", resume=True, gray=True)
    assert_one_sentence(str(caught.value))
    with pytest.raises(FileProblem, match="records of an interrupted run"):
        convert(source, tmp_path / "db", gray=True)
    assert convert(source, tmp_path / "db", gray=True, overwrite=True).kept == 0


def test_resuming_without_anything_begun_starts(tmp_path: Path) -> None:
    source = write_images(tmp_path, 3)
    assert convert(source, tmp_path / "db", resume=True).records == 3


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    database = str(tmp_path / "db")
    with resume_database(database, "LMDB", "one", False) as writer:
        writer.write([(b"k", b"v")])
        with (
            pytest.raises(FileProblem, match="another process is writing it"),
            resume_database(database, "LMDB", "one", True),
        ):
            pass
    assert len(open_database(database)) == 1


PROGRAM = """
import sys, time
from caffecompat.data.tools import convert_imageset as module
real, module._RECORDS_PER_COMMIT = module._records, 20
def records(*arguments):
    for number, record in enumerate(real(*arguments)):
        if number == 90:
            print("ready", flush=True)
            time.sleep(60)
        yield record
module._records = records
root, source, target = sys.argv[1:]
module.convert_imageset(root, source, target)
"""


def test_a_killed_conversion_opens_and_resumes(tmp_path: Path) -> None:
    source = write_images(tmp_path, 120)
    root, target = source.removesuffix("list.txt"), str(tmp_path / "db")
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, root, source, target],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    program.send_signal(signal.SIGKILL)
    program.communicate()
    assert len(records(f"{target}.unfinished")) == 80
    assert main(["convert-imageset", "--resume", root, source, target]) == 0
    assert len(records(target)) == 120


def test_a_leveldb_can_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    source = write_images(tmp_path, 40)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 33)
        with pytest.raises(Break):
            convert(source, tmp_path / "db", backend="leveldb")
    result = convert(source, tmp_path / "db", backend="leveldb", resume=True)
    assert result.kept > 0
    with open_database(tmp_path / "db", "leveldb") as database:
        assert len(database) == 40
