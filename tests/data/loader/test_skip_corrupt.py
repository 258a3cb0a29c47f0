"""Skipping corrupt records: counted, logged once, the same for any number of threads."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.backends.database import open_database
from caffecompat.data.loader.buffer_pool import BufferPool
from caffecompat.data.loader.open_readers import open_image_reader
from caffecompat.data.loader.prefetch import BatchReader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.transforms.transform import Transform
from caffecompat.errors import DataError
from caffecompat.proto import schema
from tests.data.databases import datum, encoded_datum, write_records
from tests.layers.messages import message

BAD = (0, 4, 5, 10)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Eleven records; the bad ones are the first, two adjacent ones and the last."""
    values = [datum(np.full((3, 5, 6), number), number) for number in range(11)]
    for number in BAD:
        values[number] = (b"\xff\xff", encoded_datum(b"no image"))[number % 2]
    return write_records(tmp_path / "db", values)


def reader(path: str, workers: int = 2, skip: bool = True) -> BatchReader:
    transform = schema.new("TransformationParameter")
    transform.crop_size = 3
    return BatchReader(
        open_database(path), Transform(transform, "TRAIN"), 4, ReadOptions(1, workers, skip)
    )


def test_the_next_good_record_stands_in(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), reader(path) as opened:
        assert opened.shape() == (4, 3, 3, 3)
        found = [opened.batch(index).labels.tolist() for index in range(3)]
        assert opened.skipped == 5
        opened.batch(3)
    assert found == [[1, 1, 2, 3], [6, 6, 6, 7], [8, 9, 1, 1]]
    assert len(caplog.messages) == len(BAD)
    assert caplog.messages[0].startswith(f"skipped: {path}: record 0 (key '00000000_r'): ")


def test_the_count_belongs_to_the_batches_asked_for(path: str) -> None:
    with reader(path) as opened:
        opened.batch(1)
        assert opened.skipped == 2
        opened.batch(1)
        assert opened.skipped == 4


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_and_order_do_not_matter(path: str, workers: int) -> None:
    with reader(path, 2) as opened:
        expected = [opened.batch(index) for index in range(5)]
    with reader(path, workers) as opened:
        for index in (3, 0, 1, 4):
            batch = opened.batch(index)
            assert np.array_equal(batch.data, expected[index].data)
            assert batch.skipped == expected[index].skipped


def test_without_the_flag_it_is_an_error(path: str) -> None:
    with reader(path, skip=False) as opened, pytest.raises(DataError, match="record 4 "):
        opened.batch(1)


def test_an_unfit_size_is_an_error_all_the_same(tmp_path: Path) -> None:
    values = [datum(np.zeros((3, 5, 6))), datum(np.zeros((3, 2, 6)))]
    path = write_records(tmp_path / "db", values)
    with reader(path) as opened, pytest.raises(DataError, match=r"record 1 .*than crop_size 3"):
        opened.batch(0)


def test_nothing_but_bad_records_ends(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [b"\xff\xff"] * 3)
    with reader(path) as opened, pytest.raises(DataError, match="1000 records in a row"):
        opened.batch(0)


def test_missing_images_are_skipped_too(tmp_path: Path) -> None:
    import cv2

    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((5, 6, 3), 9, np.uint8))
    (tmp_path / "list.txt").write_text("nosuch.png 1\na.png 2\n")
    source = f"source: '{tmp_path}/list.txt' root_folder: '{tmp_path}/' batch_size: 3"
    definition = message("ImageData", f"image_data_param {{ {source} }}", 2)
    with open_image_reader(definition, "TEST", ReadOptions(1, skip_corrupt=True)) as opened:
        assert opened.batch(0).labels.tolist() == [2, 2, 2]
        assert opened.skipped == 2


def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    memory = BufferPool()
    first = memory.array((2, 3))
    place = first.ctypes.data
    view = first[1:]
    del first
    second = memory.array((3, 2))
    assert second.ctypes.data != place
    del view
    assert memory.array((6,)).ctypes.data == place


def test_memory_held_by_torch_is_left_alone() -> None:
    import torch

    memory = BufferPool()
    tensor = torch.from_numpy(memory.array((2, 3)))
    assert memory.array((2, 3)).ctypes.data != tensor.data_ptr()


def test_memory_that_is_a_view_is_not_used_twice() -> None:
    import torch

    # As page-locked memory: an array over a tensor, seen as numbers of another type.
    memory = BufferPool(
        lambda size, dtype: (
            torch.empty(size * dtype.itemsize, dtype=torch.uint8).numpy().view(dtype)
        )
    )
    for dtype in (np.uint8, np.float32):
        first = memory.array((2, 3, 4, 5), dtype)
        tensor = torch.from_numpy(first.transpose(0, 3, 1, 2)[1:])
        place = first.ctypes.data
        second = memory.array((2, 3, 4, 5), dtype)
        assert not np.shares_memory(first, second)
        del first
        assert memory.array((2, 3, 4, 5), dtype).ctypes.data != place
        del tensor
        assert memory.array((2, 3, 4, 5), dtype).ctypes.data == place
