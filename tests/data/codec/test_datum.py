"""Datum: raw, float and encoded records, and records that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.errors import DataError
from caffecompat.proto import schema
from tests.places import COPIES
from tests.recorded.tally import Tally
from tests.recorded.tolerances import IMAGE_LEVELS

DATA = COPIES / "data"


def message(**fields: Any) -> Any:
    datum = schema.new("Datum")
    for name, value in fields.items():
        if name == "float_data":
            datum.float_data.extend(value)
        else:
            setattr(datum, name, value)
    return datum


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


COLOUR = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)


def test_raw_bytes_are_planes() -> None:
    pixels = decode_datum(message(channels=2, height=3, width=1, data=bytes(range(6))))
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[[0], [1], [2]], [[3], [4], [5]]]


def test_floats_are_used_where_there_are_no_bytes() -> None:
    pixels = decode_datum(message(channels=1, height=1, width=2, float_data=[-0.5, 300.25]))
    assert pixels.dtype == np.float32
    assert pixels.tolist() == [[[-0.5, 300.25]]]


def test_bytes_win_over_floats() -> None:
    both = message(channels=1, height=1, width=2, data=b"\x01\x02", float_data=[8.0, 9.0])
    assert decode_datum(both).tolist() == [[[1, 2]]]


def test_encoded_images_keep_their_channels() -> None:
    for stored, channels in (
        (COLOUR[:, :, 0], 1),
        (COLOUR, 3),
        (np.dstack([COLOUR, COLOUR[:, :, 0]]), 4),
    ):
        decoded = decode_datum(message(data=png(stored), encoded=True))
        assert decoded.shape == (channels, 3, 5)
        assert np.array_equal(decoded, np.atleast_3d(stored).transpose(2, 0, 1))


def test_colour_and_gray_can_be_forced_on_encoded_images_only() -> None:
    colour, gray = (
        message(data=png(COLOUR), encoded=True),
        message(data=png(COLOUR[:, :, 0]), encoded=True),
    )
    assert decode_datum(gray, force_color=True).shape == (3, 3, 5)
    assert decode_datum(colour, force_gray=True).shape == (1, 3, 5)
    raw = message(channels=1, height=1, width=2, data=b"\x01\x02")
    assert decode_datum(raw, force_color=True, force_gray=True).shape == (1, 1, 2)


def test_sixteen_bit_images_need_a_forced_colour() -> None:
    deep = message(data=png(COLOUR.astype(np.uint16) * 257), encoded=True)
    assert np.array_equal(decode_datum(deep, force_color=True), COLOUR.transpose(2, 0, 1))
    with pytest.raises(DataError, match="16 bit per value, expected 8"):
        decode_datum(deep)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"data": b"12345", "channels": 1, "height": 2, "width": 3}, "holds 5 values.* 1x2x3"),
        ({"float_data": [1.0], "channels": 1, "height": 1, "width": 3}, "holds 1 values.* 1x1x3"),
        ({"channels": 3, "height": 4, "width": 5}, "holds 0 values.* 3x4x5"),
        ({"data": b""}, "holds 0 values.* 0x0x0"),
        ({"data": b"12", "channels": -1, "height": -2, "width": 1}, "holds 2 values"),
        ({"data": b"no image at all", "encoded": True}, "15 encoded bytes are not an image"),
        ({"data": b"", "encoded": True}, "0 encoded bytes are not an image"),
        ({"data": b"x" * 9, "encoded": True, "label": 2}, "9 encoded bytes are not an image"),
    ],
)
def test_the_error_of_an_unusable_record_has_the_reason(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        decode_datum(message(**fields))


def test_bytes_that_are_no_datum_are_refused() -> None:
    with pytest.raises(DataError, match="its 3 bytes are not a Datum"):
        parse_datum(b"\xff\xff\xff")


def test_records_of_convert_annoset_are_named() -> None:
    """Parsed as a Datum they would be one without pixels, and without an error."""
    record = schema.new("AnnotatedDatum")
    record.datum.CopyFrom(message(channels=1, height=2, width=3, data=b"abcdef", label=4))
    with pytest.raises(DataError, match=r"AnnotatedDatum.*layers of type AnnotatedData read such"):
        parse_datum(record.SerializeToString())


@pytest.mark.parametrize("name", ["plain", "mixed", "odd", "pairs", "encoded", "square"])
def test_copied_records_hold_what_the_facts_say(name: str) -> None:
    facts = json.loads((DATA / "db" / "facts.json").read_text())["databases"][f"{name}_lmdb"]
    with open_database(DATA / "db" / f"{name}_lmdb") as database:
        keys = [record["key"].encode() for record in facts["records"]]
        assert list(database.keys()) == keys
        for index, record in enumerate(facts["records"]):
            datum = parse_datum(database.read(index)[1])
            assert (datum.label, datum.encoded) == (record["label"], record["encoded"])
            shape = decode_datum(datum).shape
            if not datum.encoded:
                assert shape == (record["channels"], record["height"], record["width"])


def test_all_recorded_databases_decode_as_in_caffe(golden: Path) -> None:
    tally = Tally()
    for planes in sorted((golden / "data" / "db").glob("*_lmdb.npz")):
        with tally.case(planes.stem):
            compared = compare_planes(planes)
            assert compared or planes.stem in ("deep_encoded_lmdb", "float_lmdb")
    tally.close(least=10)


def compare_planes(planes: Path) -> int:
    """How many recorded images were equal to those decoded from the database of the same name."""
    compared = 0
    with np.load(planes) as expected, open_database(planes.with_suffix("")) as database:
        for key in expected.files:
            kind, slash, index = key.partition("/")
            if not slash:
                continue
            datum = parse_datum(database.read(int(index))[1])
            if kind == "decoded" or not datum.encoded:
                tolerance = IMAGE_LEVELS if datum.encoded else 0
                found = decode_datum(datum)
                np.testing.assert_allclose(found, expected[key], rtol=0, atol=tolerance)
                compared += 1
    return compared
