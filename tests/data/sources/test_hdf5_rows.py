"""Rows of HDF5 files: order, wrapping, shuffling, and files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffecompat.data.read_options import ReadOptions
from caffecompat.data.sources.hdf5_rows import HDF5Reader
from caffecompat.errors import CaffeError, DataError, FileProblem, FormatError
from tests.sentences import assert_one_sentence

COUNTS = (5, 1, 8)


def write_file(path: Path, **datasets: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A list of three files whose rows are numbered from 0 to 13."""
    start = 0
    for number, count in enumerate(COUNTS):
        rows = np.arange(start, start + count)
        write_file(tmp_path / f"{number}.h5", id=rows, pair=np.stack([rows, -rows], 1) / 2)
        start += count
    return write_list(tmp_path, *(f"{number}.h5" for number in range(len(COUNTS))))


def write_list(folder: Path, *names: str) -> str:
    path = folder / "list.txt"
    path.write_text("".join(f"{folder / name}\n" for name in names))
    return str(path)


def ids(reader: HDF5Reader, batches: range) -> list[int]:
    return [int(value) for index in batches for value in reader.batch(index)[0]]


@pytest.mark.parametrize("batch_size", [1, 4, 14, 31])
def test_rows_run_on_through_files_and_wrap_inside_a_batch(source: str, batch_size: int) -> None:
    reader = HDF5Reader(source, ["id"], batch_size)
    count = 3 * batch_size
    assert ids(reader, range(3)) == [row % 14 for row in range(count)]


def test_tops_are_data_sets_in_the_order_asked_for(source: str) -> None:
    reader = HDF5Reader(source, ["pair", "id"], 3)
    pair, rows = reader.batch(1)
    assert pair.dtype == rows.dtype == np.float32
    assert pair.tolist() == [[1.5, -1.5], [2.0, -2.0], [2.5, -2.5]]
    assert rows.tolist() == [3, 4, 5]
    assert reader.shapes() == [(3, 2), (3,)]


def test_batches_come_by_index_in_any_order(source: str) -> None:
    for shuffle in (False, True):
        reader = HDF5Reader(source, ["id"], 4, shuffle, ReadOptions(3))
        in_order = [reader.batch(index)[0].tolist() for index in range(12)]
        fresh = HDF5Reader(source, ["id"], 4, shuffle, ReadOptions(3))
        order = [11, 3, 0, 7, 7, 1]
        assert [fresh.batch(index)[0].tolist() for index in order] == [in_order[i] for i in order]


def test_shuffling_keeps_every_row_once_per_epoch_and_files_together(source: str) -> None:
    rows = ids(HDF5Reader(source, ["id"], 7, True, ReadOptions(1)), range(20))
    epochs = [rows[start : start + 14] for start in range(0, 140, 14)]
    assert all(sorted(epoch) == list(range(14)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10
    file_of = np.repeat(np.arange(len(COUNTS)), COUNTS)
    orders = {tuple(dict.fromkeys(file_of[epoch].tolist())) for epoch in epochs}
    assert len(orders) > 1
    assert all(np.count_nonzero(np.diff(file_of[epoch])) == len(COUNTS) - 1 for epoch in epochs)


def test_the_seed_decides_the_order(source: str) -> None:
    runs = [
        ids(HDF5Reader(source, ["id"], 14, True, ReadOptions(seed)), range(2)) for seed in (1, 2, 1)
    ]
    assert runs[0] != runs[1]
    assert runs[0] == runs[2]


def test_batches_belong_to_the_caller(source: str) -> None:
    reader = HDF5Reader(source, ["id"], 2)
    reader.batch(0)[0].fill(-1)
    assert reader.batch(0)[0].tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["<i1", ">u2", "<i8", "<f2", ">f4", "<f8", "?"])
def test_all_numeric_types_become_single_precision(tmp_path: Path, kind: str) -> None:
    write_file(tmp_path / "a.h5", x=np.array([[0, 1], [1, 0]], kind))
    (values,) = HDF5Reader(write_list(tmp_path, "a.h5"), ["x"], 2).batch(0)
    assert values.dtype == np.float32
    assert values.tolist() == [[0, 1], [1, 0]]


def test_a_row_of_another_shape_counts_if_it_has_as_many_values(tmp_path: Path) -> None:
    write_file(tmp_path / "a.h5", x=np.arange(6.0).reshape(1, 2, 3))
    write_file(tmp_path / "b.h5", x=np.arange(6.0).reshape(1, 3, 2))
    (values,) = HDF5Reader(write_list(tmp_path, "a.h5", "b.h5"), ["x"], 2).batch(0)
    assert values.tolist() == [[[0, 1, 2], [3, 4, 5]]] * 2


def test_a_row_of_another_size_is_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "a.h5", x=np.zeros((2, 3)))
    write_file(tmp_path / "b.h5", x=np.zeros((2, 4)))
    refuse(tmp_path, DataError, r"b\.h5: a row of 'x' has the shape \(4,\), but \(3,\) in .*a\.h5")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match=r"nosuch\.txt: there is no such file .* list of HDF5"):
        HDF5Reader(str(tmp_path / "nosuch.txt"), ["x"], 1)


def test_a_missing_file_of_the_list_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path holds from the folder of the start; a blank ends a name, as in Caffe."""
    (tmp_path / "sub").mkdir()
    write_file(tmp_path / "sub" / "a.h5", x=np.zeros((2, 3)))
    (tmp_path / "list.txt").write_text("sub/a b.h5\n")
    words = r"sub/a: there is no such file \(from .*\); list\.txt names it, where a blank ends"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileProblem, match=words):
        HDF5Reader("list.txt", ["x"], 1)
    (tmp_path / "list.txt").write_text("sub/a.h5\n")
    monkeypatch.chdir(tmp_path / "sub")
    with pytest.raises(FileProblem, match=f"from {tmp_path} there is one"):
        HDF5Reader("../list.txt", ["x"], 1)


def test_a_file_that_is_no_hdf5_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"something else")
    (tmp_path / "b.h5").touch()
    refuse(tmp_path, FormatError, r"a\.h5: this is no HDF5 file, or one that is damaged")


@pytest.mark.parametrize("values", [np.array([b"text"]), np.float32(3), np.zeros(2, complex)])
def test_a_data_set_that_is_no_rows_of_numbers_is_refused(
    tmp_path: Path, values: np.ndarray
) -> None:
    write_file(tmp_path / "a.h5", x=values)
    write_file(tmp_path / "b.h5", x=values)
    refuse(tmp_path, DataError, r"a\.h5: data set 'x' is .* expected numbers with rows")


def test_a_group_is_no_data_set(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("x")
    refuse(tmp_path, DataError, r"a\.h5: no data set 'x', which a top needs; it has x")


def test_files_without_rows_are_refused(tmp_path: Path) -> None:
    write_file(tmp_path / "a.h5", x=np.zeros((0, 4)))
    write_file(tmp_path / "b.h5", x=np.zeros((0, 4)))
    refuse(tmp_path, DataError, r"list\.txt: its files have no rows")


def test_a_batch_size_below_one_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="batch_size is 0, expected 1 or more"):
        HDF5Reader(source, ["id"], 0)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external values", "virtual"])
def test_rows_of_other_files_are_refused(kind: str, tmp_path: Path) -> None:
    """Otherwise HDF5Output would write out any file that a data file names."""
    write_file(tmp_path / "secret.h5", x=np.arange(4.0))
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            if kind == "external link":
                file["x"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "x")
            elif kind == "soft link":
                file["x"] = h5py.SoftLink("/y")
                file["y"] = np.arange(4.0)
            elif kind == "external values":
                file.create_dataset("x", (4,), "f8", external=[(tmp_path / "secret.h5", 0, 32)])
            else:
                layout = h5py.VirtualLayout((4,), "f8")
                layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (4,))
                file.create_virtual_dataset("x", layout)
    reason = "is a soft or external link" if "link" in kind else "in another file"
    with pytest.raises(FormatError, match=rf"a\.h5: /x .*{reason}"):
        HDF5Reader(write_list(tmp_path, "a.h5", "b.h5"), ["x"], 1).batch(0)


@pytest.mark.parametrize("kind", ["terabytes", "named type", "fletcher32", "cut"])
def test_damaged_and_absurd_files_are_one_sentence(kind: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "terabytes":
            file.create_dataset("x", (4, 1 << 38), "f4", chunks=(1, 1024))
        elif kind == "named type":
            file["x"] = np.dtype("f4")
        elif kind == "fletcher32":
            file.create_dataset("x", data=np.ones((6, 1), "i1"), chunks=(2, 1), fletcher32=True)
        else:
            file.create_dataset("x", data=np.random.default_rng(1).random((200, 50)))
    if kind == "cut":
        data = (tmp_path / "a.h5").read_bytes()
        (tmp_path / "a.h5").write_bytes(data[:-100] if kind == "cut" else data)
    with pytest.raises((FormatError, DataError)) as caught:
        HDF5Reader(write_list(tmp_path, "a.h5"), ["x"], 1).batch(0)
    assert_one_sentence(str(caught.value))


def test_rows_that_are_packed_tightly_have_a_limit(tmp_path: Path) -> None:
    """And the advice works: the same rows without compression are read."""
    for name, packed in (("a.h5", 9), ("b.h5", None)):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("x", (9, 1 << 24), "u1", chunks=(1, 1 << 24), compression=packed)[
                :
            ] = 0
    with pytest.raises(FormatError, match=r"a\.h5: /x would take .* \(h5repack -f NONE"):
        HDF5Reader(write_list(tmp_path, "a.h5"), ["x"], 1)
    assert HDF5Reader(write_list(tmp_path, "b.h5"), ["x"], 1).shapes() == [(1, 1 << 24)]


def test_other_members_of_a_file_may_be_anything(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3.0)
        file["names"] = ["a", "b"]
        file["link"] = h5py.SoftLink("/x")
        file["kind"] = np.dtype("f4")
    (values,) = HDF5Reader(write_list(tmp_path, "a.h5"), ["x"], 3).batch(0)
    assert values.tolist() == [0, 1, 2]


def refuse(folder: Path, kind: type[CaffeError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        HDF5Reader(write_list(folder, "a.h5", "b.h5"), ["x"], 1)
    assert_one_sentence(str(caught.value))
