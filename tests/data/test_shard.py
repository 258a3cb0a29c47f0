"""Ranks: each reads its slice, together the batch that one alone would read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caffecompat.data.loader.batch import Batch
from caffecompat.data.loader.open_readers import open_image_reader, open_reader, open_window_reader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.shard import Shard
from caffecompat.data.sources.hdf5_rows import HDF5Reader
from caffecompat.errors import DataError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from caffecompat.layers.memory_data import MemoryData
from caffecompat.proto.schema import Message
from tests.data.databases import datum, encoded_datum, numbered, reader, write_records
from tests.data.transforms.paper_input import PAPER, noise, png
from tests.layers.messages import message
from tests.sentences import assert_one_sentence


def together(parts: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    data = np.concatenate([part.data for part in parts])
    return data, np.concatenate([part.labels for part in parts])


def context(rank: int, ranks: int) -> Context:
    return Context("TRAIN", "here", BuildOptions(seed=3, shard=Shard(rank, ranks)))


@pytest.mark.parametrize("ranks", range(1, 9))
@pytest.mark.parametrize("batch_size", [8, 9, 13, 256])
def test_slices_follow_one_another_and_are_even(batch_size: int, ranks: int) -> None:
    slices = [Shard(rank, ranks).rows(batch_size, "db") for rank in range(ranks)]
    assert [row for part in slices for row in part] == list(range(batch_size))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


@pytest.mark.parametrize("numbers", [(2, 2), (-1, 2), (0, 0)])
def test_ranks_that_cannot_be_are_refused(numbers: tuple[int, int]) -> None:
    sentence = "rank is {} and world_size is {}, expected 0 <= rank < world_size"
    with pytest.raises(DataError, match=sentence.format(*numbers)):
        Shard(*numbers)


@pytest.mark.parametrize(
    ("batch_size", "rank", "ranks", "words"),
    [
        (2, 0, 3, "batch_size is 2 for 3 ranks, so some would get no rows"),
        (0, 0, 1, "batch_size is 0, expected 1 or more"),
    ],
)
def test_slices_that_cannot_be_are_refused(
    batch_size: int, rank: int, ranks: int, words: str, tmp_path: Path
) -> None:
    path = numbered(tmp_path / "db", 3)
    with pytest.raises(DataError, match=words) as caught:
        reader(path, batch_size=batch_size, shard=Shard(rank, ranks))
    assert str(caught.value).startswith(f"{path}: ")
    assert_one_sentence(str(caught.value))


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    return write_records(
        tmp_path / "pictures",
        [encoded_datum(png(noise(3, 20 + n % 3, 31 - n, n)), n) for n in range(11)],
    )


@pytest.mark.parametrize("ranks", [2, 3, 7])
@pytest.mark.parametrize("workers", [1, 3])
def test_ranks_read_the_batches_of_one_pixel_for_pixel(
    pictures: str, ranks: int, workers: int
) -> None:
    with reader(pictures, batch_size=7, **PAPER) as alone:
        whole = [alone.batch(index) for index in range(5)]
        shape = alone.shape()
    shares = [
        reader(pictures, batch_size=7, shard=Shard(rank, ranks), workers=workers, **PAPER)
        for rank in range(ranks)
    ]
    for index, batch in enumerate(whole):
        parts = [share.batch(index) for share in shares]
        data, labels = together(parts)
        assert np.array_equal(data, batch.data)
        # 35 samples of 11 records in order: none lost, none doubled.
        assert labels.tolist() == [(7 * index + row) % 11 for row in range(7)]
        assert [part.data.shape for part in parts] == [share.shape(index) for share in shares]
    assert sum(share.shape()[0] for share in shares) == shape[0]
    for share in shares:
        share.close()


def test_a_rank_may_jump(pictures: str) -> None:
    with reader(pictures, batch_size=5, shard=Shard(1, 2), **PAPER) as share:
        in_order = [share.batch(index).data.copy() for index in range(4)]
        for index in (3, 0, 2, 1):
            assert np.array_equal(share.batch(index).data, in_order[index])


def test_replacements_of_corrupt_records_do_not_depend_on_ranks(tmp_path: Path) -> None:
    records = [datum(np.full((1, 4, 5), n), n) for n in range(10)]
    records[3] = records[4] = encoded_datum(b"no image")
    path = write_records(tmp_path / "db", records)
    readings: list[list[float]] = []
    skipped = []
    for ranks in (1, 2, 3):
        shares = [
            reader(path, batch_size=6, shard=Shard(rank, ranks), skip_corrupt=True)
            for rank in range(ranks)
        ]
        parts = [[share.batch(index) for share in shares] for index in range(5)]
        readings.append([label for part in parts for label in together(part)[1]])
        skipped.append(sum(share.skipped for share in shares))
        for share in shares:
            share.close()
    assert readings[0] == readings[1] == readings[2]
    assert skipped == [6, 6, 6]


def test_an_error_names_the_record_on_its_rank_only(tmp_path: Path) -> None:
    records = [datum(np.zeros((1, 4, 5))) for _ in range(6)]
    records[4] = encoded_datum(b"no image")
    path = write_records(tmp_path / "db", records)
    with reader(path, batch_size=6, shard=Shard(0, 2)) as first:
        assert len(first.batch(0).labels) == 3
    with (
        reader(path, batch_size=6, shard=Shard(1, 2)) as second,
        pytest.raises(DataError, match=r"record 4 \(key '00000004_r'\)"),
    ):
        second.batch(0)


def layer_of_pictures(kind: str, pictures: str, folder: Path) -> Message:
    if kind == "Data":
        text = f"data_param {{ source: '{pictures}' batch_size: 7 backend: LMDB }}"
    else:
        for number in range(5):
            (folder / f"{number}.png").write_bytes(png(noise(3, 21, 30 + number, number)))
        names = "".join(f"{folder}/{number}.png {number}\n" for number in range(5))
        (folder / "list.txt").write_text(names)
        text = (
            f"image_data_param {{ source: '{folder}/list.txt' batch_size: 7 shuffle: true "
            "rand_skip: 4 }"
        )
    text += " transform_param { crop_size: 13 mirror: true img_rand_resize_lower: 14 "
    return message(kind, text + "img_rand_resize_upper: 21 }", 2)


@pytest.mark.parametrize("kind", ["Data", "ImageData"])
def test_layers_honour_their_context(kind: str, pictures: str, tmp_path: Path) -> None:
    definition = layer_of_pictures(kind, pictures, tmp_path)

    def read(rank: int, ranks: int) -> list[Any]:
        layer = catalogue.find(kind)(context(rank, ranks))
        assert isinstance(layer, Source)
        layer.setup(definition, [])
        tops = [layer.read(index) or () for index in range(3)]
        assert [np.shape(top) for top in tops[0]] == layer.shapes
        layer.close()
        return tops

    whole = read(0, 1)
    for ranks in (2, 3):
        parts = [read(rank, ranks) for rank in range(ranks)]
        for index in range(3):
            for top in (0, 1):
                joined = np.concatenate([part[index][top] for part in parts])
                assert np.array_equal(joined, whole[index][top])


@pytest.mark.parametrize("kind", ["Data", "ImageData"])
def test_openers_take_ranks(kind: str, pictures: str, tmp_path: Path) -> None:
    definition = layer_of_pictures(kind, pictures, tmp_path)
    opener = open_reader if kind == "Data" else open_image_reader
    with opener(definition, "TEST", ReadOptions(1, 1, shard=Shard(2, 3))) as share:
        assert share.shape() == (3, 3, 13, 13)
        assert len(share.batch(0).labels) == 3


def test_promised_shapes_are_those_of_the_rank() -> None:
    texts = {
        "Data": "data_param { source: 'no' batch_size: 7 } "
        "transform_param { crop_size: 5 force_color: true }",
        "ImageData": "image_data_param { source: 'no' batch_size: 7 } "
        "transform_param { crop_size: 5 }",
    }
    for kind, text in texts.items():
        context = Context(
            "TRAIN", "here", BuildOptions(seed=1, shapes_only=True, shard=Shard(1, 2))
        )
        layer = catalogue.find(kind)(context)
        assert isinstance(layer, Source)
        layer.setup(message(kind, text, 2), [])
        assert layer.shapes == [(4, 3, 5, 5), (4,)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_hdf5_rows_are_shared_out(shuffle: bool, tmp_path: Path) -> None:
    for number, count in enumerate((5, 1, 8)):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["id"] = np.arange(count) + 10 * number
            file["pair"] = np.arange(2 * count).reshape(count, 2)
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{n}.h5\n" for n in range(3)))
    source, tops = str(tmp_path / "list.txt"), ["id", "pair"]
    alone = HDF5Reader(source, tops, 5, shuffle, ReadOptions(3))
    for ranks in (2, 3, 5):
        shares = [
            HDF5Reader(source, tops, 5, shuffle, ReadOptions(3, shard=Shard(rank, ranks)))
            for rank in range(ranks)
        ]
        for index in (0, 1, 2, 5):
            parts = [share.batch(index) for share in shares]
            for top, whole in enumerate(alone.batch(index)):
                assert np.array_equal(np.concatenate([part[top] for part in parts]), whole)
        assert [s.shapes()[0][0] for s in shares] == [len(s.batch(0)[0]) for s in shares]
    with pytest.raises(DataError, match=r"list\.txt: batch_size is 5 for 6 ranks"):
        HDF5Reader(source, tops, 5, options=ReadOptions(shard=Shard(0, 6)))
    definition = message("HDF5Data", f"hdf5_data_param {{ source: '{source}' batch_size: 5 }}", 1)
    definition.top[0] = "id"
    layer = catalogue.find("HDF5Data")(context(1, 2))
    assert isinstance(layer, Source)
    layer.setup(definition, [])
    assert layer.shapes == [(3,)]
    assert np.array_equal((layer.read(0) or ())[0], [2, 3, 4])


def test_windows_are_shared_out(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(noise(3, 20, 31)))
    boxes = "3 0.9 2 4 13 15\n5 0.7 0 0 30 19\n1 0.1 10 8 29 19\n4 0.2 0 0 6 5\n"
    (tmp_path / "w.txt").write_text(f"# 0\n{tmp_path}/a.png\n3 20 31\n4\n{boxes}")
    text = (
        f"window_data_param {{ source: '{tmp_path}/w.txt' batch_size: 5 fg_fraction: 0.4 }} "
        "transform_param { crop_size: 9 mirror: true }"
    )
    definition = message("WindowData", text, 2)
    with open_window_reader(definition, ReadOptions(1)) as opened:
        whole = opened.batch(2)
    parts = []
    for rank in range(3):
        with open_window_reader(definition, ReadOptions(1, 2, shard=Shard(rank, 3))) as opened:
            parts.append(opened.batch(2))
    data, labels = together(parts)
    assert np.array_equal(data, whole.data)
    assert np.array_equal(labels, whole.labels)


def test_memory_rows_are_shared_out() -> None:
    param = "memory_data_param { batch_size: 5 channels: 1 height: 2 width: 3 }"
    rows = np.arange(60, dtype=np.float32).reshape(10, 1, 2, 3)

    def read(rank: int, ranks: int, index: int) -> list[Any]:
        layer = MemoryData(context(rank, ranks))
        layer.setup(message("MemoryData", param, 2), [])
        layer.set(rows, np.arange(10))
        assert layer.shapes[0][0] == layer.shapes[1][0]
        tops = [np.asarray(top) for top in layer.read(index)]
        assert tops[0].shape == layer.shapes[0]
        return tops

    for index in (0, 1, 2):
        whole = read(0, 1, index)
        for ranks in (2, 3):
            parts = [read(rank, ranks, index) for rank in range(ranks)]
            for top in (0, 1):
                assert np.array_equal(np.concatenate([part[top] for part in parts]), whole[top])
