"""dataset info and verify."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffecompat.data.codec.datum import parse_datum
from caffecompat.proto import schema
from tests.cli.datasets.records import Run, picture, records, write
from tests.data.databases import encoded_datum


def encode_deep(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bit."""
    return bytes(cv2.imencode(".png", pixels.astype(np.uint16) * 200)[1])


def test_info(mixed: Path, run: Run) -> None:
    code, out, _ = run("info", mixed)
    assert code == 0
    for line in (
        "records   5",
        "stored    2 jpg, 1 png, 1 raw, 1 float",
        "  3x7x9          3  ########################################",
        "  1x6x5          1  ##############",
        "labels: 3 different, 0 to 7",
        "  4          3  ########################################",
        "  5 numbers between 0 and 7 are not used",
        "  1 records have no label, which counts as 0",
    ):
        assert line in out


def test_info_of_many_labels_and_of_nothing(numbered: Path, tmp_path: Path, run: Run) -> None:
    _, out, _ = run("info", numbered, "--most", 3)
    assert "247 more, of 1 to 1 records each" in out
    code, out, _ = run("info", write(tmp_path / "empty", []))
    assert code == 0
    assert "records   0" in out


def test_verify_lists_every_bad_record(mixed: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("verify", mixed)
    assert (code, out) == (0, "5 records, 0 bad\n")
    good = records(mixed)
    jpeg = parse_datum(good[0][1]).data
    half = schema.new("Datum")
    half.channels, half.height, half.width, half.data = 3, 4, 5, b"abc"
    pairs = [
        *((key.decode(), value) for key, value in good),
        ("5", b"\xff"),
        ("6", encoded_datum(jpeg[:-2])),
        ("7", half.SerializeToString()),
        ("8", encoded_datum(b"")),
        ("9", encoded_datum(encode_deep(picture(1)))),
    ]
    code, out, _ = run("verify", write(tmp_path / "bad", pairs), "--workers", 2)
    assert code == 1
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        f"record {number} (key '{number}')" for number in (5, 6, 7, 8)
    ]
    assert "not a Datum" in lines[0]
    # OpenCV 4 decodes it without a word, OpenCV 5 refuses.
    assert "the image is cut off" in lines[1] or "not an image" in lines[1]
    assert "holds 3 values, but its sizes are 3x4x5" in lines[2]
    assert lines[-1] == "10 records, 4 bad"


def test_info_counts_what_is_unusable(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path / "bad", [("1", b"\xff"), ("2", encoded_datum(b"no image"))])
    code, out, _ = run("info", path)
    assert code == 0
    assert "unusable  2; which: caffecompat dataset verify" in out
