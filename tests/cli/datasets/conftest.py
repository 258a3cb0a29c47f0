"""The verb dataset, and the databases that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.data.codec.images import encode_image
from caffecompat.proto import schema
from tests.cli.datasets.records import Run, picture, write
from tests.commands import outcome
from tests.data.databases import datum, encoded_datum


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        return outcome(["dataset", *map(str, words)], capsys)

    return call


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Five records of different kinds."""
    gray = picture(3, (1, 6, 5))
    float_message = schema.new("Datum")
    float_message.channels, float_message.height, float_message.width = 2, 1, 3
    float_message.float_data.extend(range(6))
    return write(
        tmp_path / "mixed",
        [
            ("00000000_a/b c.jpg", encoded_datum(encode_image(picture(1), "jpg"), 4)),
            ("00000001_d.png", encoded_datum(encode_image(picture(2), "png"), 7)),
            ("00000002_e.bmp", datum(gray, 4)),
            ("00000003", bytes(float_message.SerializeToString())),
            ("00000004_f.jpg", encoded_datum(encode_image(picture(5), "jpg"), 4)),
        ],
    )


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    pairs = [
        (f"{number:08d}_{number}.png", datum(picture(number).transpose(2, 0, 1), number))
        for number in range(250)
    ]
    return write(tmp_path / "numbered", pairs)
