"""compute_image_mean against the means that Caffe's tool wrote."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.backends.database import create_database
from caffecompat.data.tools.compute_image_mean import compute_colours, compute_image_mean
from caffecompat.errors import DataError, FileProblem
from caffecompat.weights.mean_file import read_mean
from tests.data.databases import datum, write_records
from tests.places import COPIES
from tests.sentences import assert_one_sentence

DATA = COPIES / "data"

COPIED = json.loads((DATA / "mean" / "means.json").read_text())["means"]
NAMES = ["encode_png", "encoded", "float", "gray", "mixed", "plain", "resize", "special_encoded"]


def compare(
    folder: Path, name: str, facts: dict[str, Any], out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = str(folder / "db" / name)
    if facts["fatal"]:
        with pytest.raises(DataError, match="the first record is") as caught:
            compute_image_mean(database)
        assert_one_sentence(str(caught.value))
        return
    with caplog.at_level(logging.INFO):
        compute_image_mean(database, str(out))
    recorded = folder / "mean" / f"{name}.binaryproto"
    assert out.read_bytes() == recorded.read_bytes()
    expected = [
        line.replace("lmdb DB", f"lmdb {database}").replace(f"mean/{name}.binaryproto", str(out))
        for line in facts["log"]
    ]
    assert caplog.messages == expected


@pytest.mark.parametrize("name", COPIED)
def test_copied_means(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compare(DATA, name, COPIED[name], tmp_path / "out", caplog)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_means(
    name: str, golden: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    facts = json.loads((golden / "data" / "mean" / "means.json").read_text())["means"]
    compare(golden / "data", f"{name}_lmdb", facts[f"{name}_lmdb"], tmp_path / "out", caplog)


def test_the_mean_is_returned_and_progress_reported(tmp_path: Path) -> None:
    pixels = np.arange(24).reshape(2, 3, 4)
    path = write_records(tmp_path / "db", [datum(pixels), datum(pixels + 7), datum(pixels * 2)])
    seen: list[tuple[int, int]] = []
    mean = compute_image_mean(path, str(tmp_path / "m"), progress=lambda *at: seen.append(at))
    expected = (pixels * 4 + 7).astype(np.float32) / np.float32(3)
    assert np.array_equal(mean.image, expected)
    assert np.array_equal(read_mean(tmp_path / "m"), expected)
    np.testing.assert_allclose(mean.channels, expected.mean(axis=(1, 2)), rtol=1e-6)
    assert (mean.records, seen) == (3, [(3, 3)])


def test_sums_are_single_precision_one_after_the_other(tmp_path: Path) -> None:
    # 2**24 + 1 is not a float32: adding 1 to it record by record is lost, unlike in double.
    from caffecompat.proto import schema

    values = []
    for value in (2.0**24, 1.0, 1.0):
        message = schema.new("Datum")
        message.channels = message.height = message.width = 1
        message.float_data.append(value)
        values.append(message.SerializeToString())
    mean = compute_image_mean(write_records(tmp_path / "db", values))
    assert mean.image.item() == np.float32(2.0**24) / np.float32(3)


def test_an_empty_database_has_no_mean(tmp_path: Path) -> None:
    with create_database(tmp_path / "db"):
        pass
    with pytest.raises(DataError, match="the database has no records"):
        compute_image_mean(str(tmp_path / "db"))


def test_a_record_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [datum(np.zeros((1, 2, 3))), b"\xff\xff"])
    with pytest.raises(DataError, match=r"db: record 1 \(key '00000001_r'\): its 2 bytes are no"):
        compute_image_mean(path, str(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_a_missing_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="nosuch: there is no database"):
        compute_image_mean(str(tmp_path / "nosuch"))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [datum(np.zeros((1, 2, 3)))])
    (tmp_path / "file").touch()
    with pytest.raises(FileProblem, match="file/m: cannot make a folder there"):
        compute_image_mean(path, str(tmp_path / "file" / "m"))
    compute_image_mean(path, str(tmp_path / "new" / "m"))
    assert (tmp_path / "new" / "m").exists()


def test_colours_come_with_the_mean_or_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    equal = [rng.integers(0, 256, (3, 5, 8), np.uint8) for _ in range(4)]
    path = write_records(tmp_path / "equal", [datum(pixels) for pixels in equal])
    mean = compute_image_mean(path, colours=True)
    assert mean.colours is not None
    np.testing.assert_allclose(mean.colours.mean, mean.channels, rtol=1e-5)
    assert compute_image_mean(path).colours is None
    alone = compute_colours(path)
    assert np.array_equal(alone.mean, mean.colours.mean)
    assert np.array_equal(alone.components, mean.colours.components)


def test_colours_of_images_of_many_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (3, 5 + i, 8), np.uint8) for i in range(3)]
    path = write_records(tmp_path / "db", [datum(pixels) for pixels in images])
    steps: list[tuple[int, int]] = []
    colours = compute_colours(path, progress=lambda *at: steps.append(at))
    together = np.concatenate([pixels.reshape(3, -1) for pixels in images], axis=1)
    np.testing.assert_allclose(colours.mean, together.mean(axis=1), rtol=1e-6)
    assert colours.pixels == together.shape[1]
    assert steps == [(3, 3)]


def test_gray_images_have_no_colours(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [datum(np.zeros((1, 4, 5)))])
    with pytest.raises(DataError, match=r"record 0 \(key '00000000_r'\): it has 1 channels"):
        compute_colours(path)
    with pytest.raises(DataError, match="no records"):
        compute_colours(write_records(tmp_path / "empty", []))


def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(tmp_path / "db", [datum(np.zeros((3, 4, 5), np.uint8))])
    name = "caffecompat.data.tools.compute_image_mean._sum"
    monkeypatch.setattr(name, lambda *_: pytest.fail("it began"))
    (tmp_path / "mean").mkdir()
    with pytest.raises(FileProblem, match="mean: cannot be written: it is a folder"):
        compute_image_mean(str(tmp_path / "db"), str(tmp_path / "mean"))
