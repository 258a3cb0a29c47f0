"""Preprocessing as JSON, there and back, and JSON that is none."""

from __future__ import annotations

import json

import pytest

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import FormatError

FULL = Preprocessing(
    "RGB", (1.5, 2.0, 3.25), 0.5, (7, 5), (4, 3), ("tench", "goldfish, Carassius", "ß"), "bicubic"
)


@pytest.mark.parametrize("what", [Preprocessing(), FULL, Preprocessing(resize=256)])
def test_there_and_back(what: Preprocessing) -> None:
    assert Preprocessing.from_json(what.to_json()) == what


def test_keys_that_are_missing_have_their_defaults() -> None:
    assert Preprocessing.from_json('{"scale": 2}') == Preprocessing(scale=2.0)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("channel_order", "GBR", "BGR, RGB or gray"),
        ("channel_order", ["BGR"], "BGR, RGB or gray"),
        ("mean", [], "a list of numbers"),
        ("mean", ["1"], "a list of numbers"),
        ("scale", True, "a number"),
        ("scale", 10**400, "a number"),
        ("resize", 0, "null, one side"),
        ("resize", [1, 2, 3], "null, one side"),
        ("crop", [10**9, 1], "null, or height and width"),
        ("crop", 224, "null, or height and width"),
        ("labels", [1], "a list of names"),
        ("interpolation", "lanczos", "bilinear, bicubic or area"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object, expected: str) -> None:
    with pytest.raises(FormatError, match=rf"^x: '{key}' of the .*expected {expected}"):
        Preprocessing.from_json(json.dumps({key: value}), "x")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "NaN", "[" * 10**5])
def test_what_is_no_preprocessing_gets_one_sentence(text: str) -> None:
    with pytest.raises(FormatError, match=r"^file\.json: the preprocessing"):
        Preprocessing.from_json(text, "file.json")
