"""Layers that bring data into a net: Input, DummyData, Data, HDF5Data."""

from __future__ import annotations

from pathlib import Path

import h5py
import lmdb
import numpy as np
import pytest
import torch

from caffecompat.errors import DataError, FileProblem, LayerError, UnknownName
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from caffecompat.proto.schema import new
from tests.layers.messages import message


def source(
    text: str, type_name: str, tops: int = 1, shapes_only: bool = False, seed: int = 5
) -> Source:
    context = Context(
        "TRAIN", f"layer 'one' ({type_name})", BuildOptions(seed=seed, shapes_only=shapes_only)
    )
    layer = catalogue.find(type_name)(context)
    layer.setup(message(type_name, text, tops), [])
    assert isinstance(layer, Source)
    return layer


def test_input_gives_one_shape_to_all_tops() -> None:
    layer = source("input_param { shape { dim: 2 dim: 3 } }", "Input", tops=2)
    assert layer.shapes == [(2, 3), (2, 3)]
    assert layer.read(0) is None


def test_input_with_a_shape_each() -> None:
    layer = source("input_param { shape { dim: 2 } shape { } }", "Input", tops=2)
    assert layer.shapes == [(2,), ()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 shapes for 3 tops"),
        ("input_param { shape { dim: 1 } shape { dim: 2 } }", "2 shapes for 3 tops"),
        ("input_param { shape { dim: -1 } }", "extent below 1"),
    ],
)
def test_input_refused(text: str, words: str) -> None:
    with pytest.raises(LayerError, match=words):
        source(text, "Input", tops=3)


def test_dummy_constants_and_old_shapes() -> None:
    text = (
        "dummy_data_param { num: 2 num: 3 channels: 4 height: 1 height: 5 width: 6 "
        "data_filler { value: 0.25 } data_filler { type: 'constant' value: -2 } }"
    )
    layer = source(text, "DummyData", tops=2)
    assert layer.shapes == [(2, 4, 1, 6), (3, 4, 5, 6)]
    first, second = layer.read(0) or ()
    assert (first.mean(), second.mean()) == (0.25, -2)
    assert layer.read(1)[0] is first  # type: ignore[index]


def test_dummy_random_tops_are_functions_of_seed_and_pass() -> None:
    text = "dummy_data_param { shape { dim: 4 dim: 3 } data_filler { type: 'gaussian' } }"
    a, b = (source(text, "DummyData", tops=2) for _ in "ab")
    later = [torch.as_tensor(x) for x in a.read(3) or ()]
    before = [torch.as_tensor(x) for x in a.read(2) or ()]
    again = [torch.as_tensor(x) for x in b.read(3) or ()]
    other = [torch.as_tensor(x) for x in source(text, "DummyData", 2, seed=6).read(3) or ()]
    assert all(torch.equal(x, y) for x, y in zip(later, again, strict=True))
    assert not torch.equal(later[0], later[1])
    assert not torch.equal(later[0], before[0])
    assert not torch.equal(later[0], other[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "shape is given 0 times for 3 tops"),
        ("shape { dim: 2 } shape { dim: 3 }", "shape is given 2 times"),
        ("shape { dim: 2 } num: 1 channels: 1 height: 1 width: 1", "exclude each other"),
        ("num: 2 channels: 1 height: 1", "width is given 0 times"),
        ("shape { dim: 2 } data_filler { } data_filler { }", "data_filler is given 2 times"),
    ],
)
def test_dummy_refused(text: str, words: str) -> None:
    with pytest.raises(LayerError, match=words):
        source(f"dummy_data_param {{ {text} }}", "DummyData", tops=3)


def test_dummy_with_an_unknown_filler_is_refused_when_it_is_set_up() -> None:
    with pytest.raises(UnknownName, match=r"filler 'xaver'.*'xavier'"):
        source("dummy_data_param { shape { dim: 2 } data_filler { type: 'xaver' } }", "DummyData")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Five records of 3x4x6 pixels, all equal to their label."""
    folder = tmp_path / "five_lmdb"
    with (
        lmdb.open(str(folder), map_size=1 << 20) as environment,
        environment.begin(write=True) as t,
    ):
        for label in range(5):
            datum = new("Datum")
            datum.channels, datum.height, datum.width, datum.label = 3, 4, 6, label
            datum.data = bytes([label] * 72)
            t.put(b"%08d" % label, datum.SerializeToString())
    return folder


def data_text(path: Path, more: str = "") -> str:
    return f"data_param {{ source: '{path}' batch_size: 3 backend: LMDB }} {more}"


def test_data_reads_batches_and_starts_again(database: Path) -> None:
    layer = source(data_text(database, "transform_param { scale: 2 }"), "Data", tops=2)
    assert layer.shapes == [(3, 3, 4, 6), (3,)]
    images, labels = layer.read(1) or ()
    assert np.asarray(labels).tolist() == [3, 4, 0]
    assert np.asarray(images)[:, 2, 1, 5].tolist() == [6, 8, 0]
    layer.close()


def test_data_without_labels(database: Path) -> None:
    layer = source(data_text(database), "Data")
    assert layer.shapes == [(3, 3, 4, 6)]
    assert len(layer.read(0) or ()) == 1
    layer.close()


def test_missing_database_is_named_with_its_layer(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"layer 'one' \(Data\): .*none_lmdb.*no database"):
        source(data_text(tmp_path / "none_lmdb"), "Data", tops=2)


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        ("crop_size: 7 mean_value: [1, 2, 3]", (3, 3, 7, 7)),
        ("crop_size: 7 force_color: true", (3, 3, 7, 7)),
        ("crop_size: 7 force_gray: true mean_value: 1", (3, 1, 7, 7)),
        ("crop_size: 7 mean_value: 1", (3, 3, 7, 7)),
        ("crop_size: 7 mean_file: 'none.binaryproto'", (3, 3, 7, 7)),
    ],
)
def test_shapes_without_the_database(
    tmp_path: Path, transform: str, shape: tuple[int, ...]
) -> None:
    text = data_text(tmp_path / "none", f"transform_param {{ {transform} }}")
    assert source(text, "Data", tops=2, shapes_only=True).shapes == [shape, (3,)]


@pytest.mark.parametrize("transform", ["mirror: true", "mean_value: [1, 2]"])
def test_unknown_shapes_without_the_database(tmp_path: Path, transform: str) -> None:
    text = data_text(tmp_path / "none", f"transform_param {{ {transform} }}")
    with pytest.raises(FileProblem, match=r"layer 'one' \(Data\).*shape of its images is unknown"):
        source(text, "Data", shapes_only=True)


def test_hdf5_tops_are_data_sets(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.float64).reshape(5, 2, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t0"], file["t1"] = values, np.arange(5)
    listed = tmp_path / "list.txt"
    listed.write_text(f"{tmp_path / 'a.h5'}\n")
    text = f"hdf5_data_param {{ source: '{listed}' batch_size: 4 }}"
    layer = source(text, "HDF5Data", tops=2)
    assert layer.shapes == [(4, 2, 3), (4,)]
    first, second = layer.read(1) or ()
    assert np.asarray(second).tolist() == [4, 0, 1, 2]
    assert np.array_equal(first, values[[4, 0, 1, 2]].astype(np.float32))
    with pytest.raises(DataError, match=r"layer 'one' \(HDF5Data\).*transform_param"):
        source(text + " transform_param { scale: 2 }", "HDF5Data", tops=2)
    with pytest.raises(DataError, match=r"layer 'one' \(HDF5Data\).*t2"):
        source(text, "HDF5Data", tops=3)
