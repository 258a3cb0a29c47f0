"""BatchReader: the same batches for any timing of its threads, and threads that end."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from caffecompat.data.backends.database import create_database
from caffecompat.data.loader.batch import Batch, PartialBatch
from caffecompat.data.loader.open_readers import open_reader
from caffecompat.data.read_options import ReadOptions
from caffecompat.errors import DataError
from caffecompat.proto import schema
from tests.data.databases import (
    batches,
    datum,
    encoded_datum,
    numbered,
    reader,
    write_records,
)
from tests.places import COPIES, REPOSITORY
from tests.sentences import assert_one_sentence

DATA = COPIES / "data"

CROPPED: dict[str, Any] = {"crop_size": 4, "mirror": True, "mean_value": [3.0], "scale": 0.5}


@pytest.fixture
def database(tmp_path: Path) -> str:
    return numbered(tmp_path / "db", 11)


def equal(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    return all(
        np.array_equal(a.data, b.data) and np.array_equal(a.labels, b.labels)
        for a, b in zip(first, second, strict=True)
    )


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("caffecompat-data")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_is_told_where_the_threads_are(database: str, tmp_path: Path) -> None:
    """It would wait for them; a reader that had not begun reads in the process that begins."""
    told = tmp_path / "told.txt"
    with reader(database, prefetch=2) as begun, reader(database) as fresh:
        begun.batch(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                begun.batch(1)
            except DataError as error:
                told.write_text(str(error))
                begun.close()
            os._exit(0 if equal([fresh.batch(0)], batches(database, [0])) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert equal([begun.batch(1)], batches(database, [1]))
    assert told.read_text() == (
        f"{database}: it is being read in process {os.getpid()}, from which this one ({child}) was "
        "forked; make the net or reader in the new process"
    )


@pytest.mark.parametrize("batch_size", [1, 3, 17])
def test_the_number_of_workers_does_not_matter(database: str, batch_size: int) -> None:
    runs = [
        batches(
            database, range(6), batch_size=batch_size, workers=workers, prefetch=ahead, **CROPPED
        )
        for workers, ahead in ((1, 1), (2, 3), (4, 2))
    ]
    assert equal(runs[0], runs[1])
    assert equal(runs[0], runs[2])


def test_any_order_gives_the_batches_of_reading_on(database: str) -> None:
    in_order = batches(database, range(9), **CROPPED)
    order = [8, 0, 1, 2, 7, 7, 3, 4, 0]
    assert equal(batches(database, order, **CROPPED), [in_order[index] for index in order])


def test_the_seed_decides_crops_and_flips_but_not_records(database: str) -> None:
    first, second = (batches(database, range(4), seed=seed, **CROPPED) for seed in (1, 2))
    assert not equal(first, second)
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(first, second, strict=True))


def test_the_split_into_batches_does_not_change_a_sample(database: str) -> None:
    whole = np.concatenate(
        [batch.data for batch in batches(database, range(3), batch_size=8, **CROPPED)]
    )
    parts = np.concatenate(
        [batch.data for batch in batches(database, range(8), batch_size=3, **CROPPED)]
    )
    assert np.array_equal(whole, parts)


def test_one_record_is_cut_differently_in_every_epoch(database: str) -> None:
    made = batches(database, range(11), batch_size=11, **CROPPED)
    assert len({batch.data[4].tobytes() for batch in made}) > 5


def test_records_run_on_over_the_end(database: str) -> None:
    labels = [batch.labels.tolist() for batch in batches(database, range(4), batch_size=5)]
    assert labels == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 0, 1, 2, 3], [4, 5, 6, 7, 8]]


def test_batches_are_single_precision_and_contiguous(database: str) -> None:
    (batch,) = batches(database, [0], batch_size=2)
    assert batch.data.dtype == batch.labels.dtype == np.float32
    assert batch.data.flags.c_contiguous
    assert (batch.data.shape, batch.labels.shape) == ((2, 3, 7, 9), (2,))


def test_batches_belong_to_the_caller(database: str) -> None:
    with reader(database, batch_size=11) as opened:
        first = opened.batch(0)
        kept = first.data.copy()
        for index in range(1, 7):
            opened.batch(index).data.fill(-1)
        assert np.array_equal(first.data, kept)


def test_the_shape_is_known_without_threads(tmp_path: Path) -> None:
    records = [datum(np.zeros(shape)) for shape in ((3, 7, 9), (1, 4, 5), (1, 4, 5), (2, 8, 6))]
    path = write_records(tmp_path / "db", records)
    with reader(path, batch_size=1) as opened:
        assert opened.shape() == (1, 3, 7, 9)
        assert opened.shape(3) == (1, 2, 8, 6)
        assert opened.shape(5) == (1, 1, 4, 5)
        assert our_threads() == []
    with reader(path, batch_size=2, crop_size=4) as opened:
        assert opened.shape() == (2, 3, 4, 4)


def test_the_first_record_decides_and_an_unequal_one_is_named(tmp_path: Path) -> None:
    sizes = [(1, 4, 5), (1, 4, 5), (1, 6, 3), (1, 6, 3), (1, 6, 3), (1, 4, 5)]
    path = write_records(tmp_path / "db", [datum(np.zeros(size)) for size in sizes])
    with reader(path, batch_size=2) as opened:
        assert opened.batch(0).data.shape == (2, 1, 4, 5)
        assert opened.batch(1).data.shape == (2, 1, 6, 3)
        with pytest.raises(DataError) as caught:
            opened.batch(2)
    assert_one_sentence(str(caught.value))
    for fact in (path, "record 5", "'00000005_r'", "1x4x5", "1x6x3"):
        assert fact in str(caught.value)


def test_unequal_records_are_fine_if_all_are_cropped(tmp_path: Path) -> None:
    sizes = [(1, 4, 5), (1, 6, 3), (1, 30, 8)]
    path = write_records(tmp_path / "db", [datum(np.zeros(size)) for size in sizes])
    assert batches(path, [0], batch_size=3, crop_size=3)[0].data.shape == (3, 1, 3, 3)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_earliest_faulty_record_is_named_when_its_batch_is_asked_for(
    tmp_path: Path, workers: int
) -> None:
    records = [datum(np.full((1, 3, 4), number), number) for number in range(12)]
    records[7] = encoded_datum(b"no image")
    records[6] = b"\xff\xff"
    path = write_records(tmp_path / "db", records)
    with reader(path, batch_size=4, workers=workers) as opened:
        assert opened.batch(0).labels.tolist() == [0, 1, 2, 3]
        for _ in range(2):
            with pytest.raises(DataError) as caught:
                opened.batch(1)
            assert str(caught.value).startswith(f"{path}: record 6 (key '00000006_r'): ")
            assert_one_sentence(str(caught.value))
        assert opened.batch(2).labels.tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("value", [b"", b"\xff\xff", encoded_datum(b"no image")])
def test_a_faulty_first_record_is_named_too(tmp_path: Path, value: bytes) -> None:
    path = write_records(tmp_path / "db", [value, datum(np.zeros((1, 2, 3)))])
    with reader(path, batch_size=2) as opened:
        for call in (opened.batch, opened.shape):
            with pytest.raises(DataError, match=r"record 0 \(key '00000000_r'\): "):
                call(0)


def test_an_unexpected_error_in_a_thread_arrives_at_the_call(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader(database, batch_size=4) as opened:
        opened.batch(0)
        monkeypatch.setattr(opened._maker, "fill", lambda draft, row: 1 // 0)
        # A jump: nothing of batch 50 has been read ahead.
        with pytest.raises(ZeroDivisionError):
            opened.batch(50)


def test_no_thread_outlives_close(database: str) -> None:
    opened = reader(database, workers=3)
    assert our_threads() == []
    opened.batch(0)
    assert len(our_threads()) == 4
    opened.batch(5)
    assert len(our_threads()) == 4
    opened.close()
    opened.close()
    assert our_threads() == []
    with pytest.raises(DataError, match="the reader has been closed"):
        opened.batch(0)


def test_no_thread_outlives_a_forgotten_reader(database: str) -> None:
    opened = reader(database)
    opened.batch(0)
    cycle = [opened]
    cycle.append(cycle)  # type: ignore[arg-type]
    del opened, cycle
    gc.collect()
    assert our_threads() == []


def test_closing_does_not_wait_for_what_is_read_ahead(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = reader(database, batch_size=50, workers=1, prefetch=8)
    fill = opened._maker.fill
    filled: list[int] = []
    closing = threading.Event()

    def stopping() -> bool:
        ahead = opened._prefetcher
        return closing.is_set() and (ahead is None or ahead._stopping)

    def fill_until_closed(batch: PartialBatch, row: int) -> None:
        filled.append(row)
        # The first row of the second batch is filled while the reader closes.
        while len(filled) > 50 and not stopping():
            time.sleep(0.001)
        fill(batch, row)

    monkeypatch.setattr(opened._maker, "fill", fill_until_closed)
    opened.batch(0)
    closing.set()
    opened.close()
    assert len(filled) <= 51, "rows of the batches ahead were filled"


PROGRAM = """
import sys, time
from tests.data.databases import reader
opened = reader(sys.argv[1], batch_size=64, prefetch=3)
opened.batch(0)
print("ready", flush=True)
if sys.argv[2] == "wait":
    for index in range(1, 10**9):
        opened.batch(index)
"""


@pytest.mark.parametrize("ending", ["leave", "wait"])
def test_a_program_ends_with_a_reader_open(database: str, ending: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, database, ending],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        assert program.stdout.readline() == "ready\n"
        if ending == "wait":
            program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    finally:
        program.kill()
    if ending == "wait":
        assert errors.rstrip().endswith("KeyboardInterrupt")
    else:
        assert (program.returncode, errors) == (0, "")


def test_two_readers_of_one_database_do_not_disturb_each_other(database: str) -> None:
    expected = batches(database, range(5), **CROPPED)
    with reader(database, **CROPPED) as first, reader(database, **CROPPED) as second:
        pairs = [(first.batch(index), second.batch(index)) for index in range(5)]
    assert equal([pair[0] for pair in pairs], expected)
    assert equal([pair[1] for pair in pairs], expected)


def test_training_crops_of_encoded_records_are_true_windows() -> None:
    path = str(DATA / "db" / "encoded_lmdb")
    (whole,) = batches(path, [0], batch_size=5, force_color=True)
    cropped = batches(path, range(4), batch_size=5, force_color=True, crop_size=13)
    for batch in cropped:
        for sample, full in zip(batch.data, whole.data, strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(full, (3, 13, 13))[0]
            assert (windows == sample).all(axis=(2, 3, 4)).any()


def test_an_empty_database_is_refused(tmp_path: Path) -> None:
    with create_database(tmp_path / "db"):
        pass
    with pytest.raises(DataError, match="db: the database has no records"):
        reader(str(tmp_path / "db"))


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}, {"prefetch": 0}])
def test_numbers_below_one_are_refused(database: str, wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match=f"{next(iter(wrong))} is 0.* expected 1 or more"):
        reader(database, **wrong)  # type: ignore[arg-type]


def test_a_negative_batch_is_refused(database: str) -> None:
    with reader(database) as opened, pytest.raises(DataError, match="batch -1, expected 0 or more"):
        opened.batch(-1)


def test_open_reader_ignores_what_caffe_ignores(database: str) -> None:
    layer = schema.new("LayerParameter")
    layer.data_param.source = database
    layer.data_param.backend = schema.enum_names("DataParameter.DB")["LMDB"]
    layer.data_param.batch_size = 3
    layer.data_param.rand_skip = 5
    layer.data_param.crop_size = 2
    layer.data_param.scale = 9
    layer.data_param.mirror = True
    with open_reader(layer, "TRAIN", ReadOptions(1, 1)) as opened:
        assert equal([opened.batch(0)], batches(database, [0], batch_size=3))


def test_shuffled_databases_give_each_record_once_in_a_pass(database: str) -> None:
    layer = schema.new("LayerParameter")
    layer.data_param.source = database
    layer.data_param.backend = schema.enum_names("DataParameter.DB")["LMDB"]
    layer.data_param.batch_size = 1
    layer.data_param.shuffle = True
    orders = []
    for seed in (1, 1, 2):
        with open_reader(layer, "TRAIN", ReadOptions(seed, 1)) as opened:
            count = opened.records
            assert count is not None
            labels = [float(opened.batch(index).labels[0]) for index in range(2 * count)]
        assert sorted(labels[:count]) == sorted(labels[count:]) == list(range(count))
        assert labels[:count] != labels[count:]
        orders.append(labels)
    assert orders[0] == orders[1] != orders[2]


def test_open_reader_closes_the_database_it_cannot_use(database: str) -> None:
    layer = schema.new("LayerParameter")
    layer.data_param.source = database
    layer.data_param.backend = schema.enum_names("DataParameter.DB")["LMDB"]
    with pytest.raises(DataError, match="batch_size is 0"):
        open_reader(layer, "TEST")
    # The binding opens a file only once in a process.
    lmdb.open(database, readonly=True, lock=False).close()
