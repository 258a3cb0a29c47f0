"""JPEG files that are cut off: read as ``cv2.imread`` reads them, by which Caffe reads files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import decode_file, encode_image
from caffecompat.errors import DataError
from caffecompat.proto import schema


def jpeg() -> bytes:
    rows, columns = np.mgrid[0:90, 0:130]
    smooth = np.stack([rows * 2, columns, (rows * columns) % 251], axis=2)
    return encode_image(smooth.astype(np.uint8), "jpg")


def header_size(data: bytes) -> int:
    return data.index(b"\xff\xda") + 16


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_files(share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = jpeg()
    start = header_size(whole)
    cut = whole[: start + int(share * (len(whole) - start))]
    Path("cut.jpg").write_bytes(cut)
    expected = cv2.imread("cut.jpg")
    assert expected is not None
    assert expected.shape == (90, 130, 3)
    found = decode_file(cut, "color")
    assert found is not None
    assert np.array_equal(found, expected)
    # The whole image has other pixels, so that something is missing.
    of_whole = decode_file(whole, "color")
    assert of_whole is not None
    assert not np.array_equal(found, of_whole)

    Path("list.txt").write_text("cut.jpg 3\n")
    assert main(["convert-imageset", f"{tmp_path}{os.sep}", "list.txt", "a_lmdb"]) == 0
    with open_database("a_lmdb") as records:
        assert len(records) == 1
        datum = parse_datum(records.read(0)[1])
    assert np.array_equal(decode_datum(datum), expected.transpose(2, 0, 1))


def test_what_has_no_pixels_is_no_image() -> None:
    whole = jpeg()
    assert decode_file(whole[: header_size(whole) - 20], "color") is None
    assert decode_file(b"\xff\xd8\xff", "color") is None
    png = encode_image(np.ones((5, 4, 3), np.uint8), "png")
    assert decode_file(png[:20], "color") is None


def test_records_that_are_cut_off_stay_mistakes() -> None:
    """As in Caffe, whose Data layer decodes them from memory."""
    whole = jpeg()
    datum = schema.new("Datum")
    datum.encoded = True
    datum.data = whole[: header_size(whole) + 100]
    if cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_COLOR) is None:
        with pytest.raises(DataError):
            decode_datum(datum)
