"""Mean files in every encoding that Caffe takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.weights import LayerWeights, Weights, read_mean, save_weights, write_mean
from caffecompat.weights.encodings import wire
from caffecompat.weights.mean_file import read_mean_values
from tests.places import COPIES

DATA = COPIES / "files" / "mean"


@pytest.mark.parametrize("encoding", ["legacy", "double", "shape4", "shape3"])
def test_recorded_mean(encoding: str) -> None:
    mean = read_mean(DATA / f"{encoding}.binaryproto")
    assert mean.dtype == np.float32
    with np.load(DATA / "mean.npz") as recorded:
        np.testing.assert_array_equal(mean, recorded["mean"])
    assert mean.shape == (3, 6, 5)


def test_written_bytes_are_those_of_caffe(tmp_path: Path) -> None:
    write_mean(read_mean(DATA / "shape3.binaryproto"), tmp_path / "mean.binaryproto")
    written = (tmp_path / "mean.binaryproto").read_bytes()
    assert written == (DATA / "legacy.binaryproto").read_bytes()


def test_round_trip_of_a_transposed_view(tmp_path: Path) -> None:
    picture = np.random.default_rng(3).random((5, 4, 3))
    write_mean(picture.transpose(2, 0, 1), tmp_path / "mean.binaryproto")
    back = read_mean(tmp_path / "mean.binaryproto")
    np.testing.assert_array_equal(back, picture.transpose(2, 0, 1).astype(np.float32))


def test_not_one_image(tmp_path: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    with pytest.raises(DataError, match="the mean has 2 axes, expected channels, height, width"):
        write_mean(np.zeros((3, 4)), path)
    for sizes in ((2, 3, 4, 1), (1, 3, 0, 4)):
        data = b"".join(p for n, s in enumerate(sizes, 1) for p in wire.number_field(n, s))
        path.write_bytes(data + b"*\x60" + bytes(96) if 0 not in sizes else data)
        with pytest.raises(FormatError, match="expected 1 x channels x height x width"):
            read_mean(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="there is no such file"):
        read_mean(tmp_path / "none.binaryproto")
    save_weights(Weights([LayerWeights("a")]), tmp_path / "x.caffemodel")
    with pytest.raises(FormatError, match="this is a caffemodel; expected a mean file"):
        read_mean(tmp_path / "x.caffemodel")
    np.save(tmp_path / "mean.npy", np.zeros((3, 4, 5)))
    with pytest.raises(FormatError, match="a single NumPy array"):
        read_mean(tmp_path / "mean.npy")
    data = (DATA / "legacy.binaryproto").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut.binaryproto").write_bytes(data[:length])
        with pytest.raises(FormatError):
            read_mean(tmp_path / "cut.binaryproto")


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5), (1, 4, 5)])
def test_means_in_npy_files(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(1).random(shape)
    np.save(tmp_path / "mean.npy", np.asfortranarray(values))
    (tmp_path / "mean.npy").rename(tmp_path / "mean.any")
    found = read_mean_values(tmp_path / "mean.any")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_either_kind_of_mean(tmp_path: Path) -> None:
    picture = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    write_mean(picture, tmp_path / "mean.npy")
    np.testing.assert_array_equal(read_mean_values(tmp_path / "mean.npy"), picture)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4)), r"the mean has shape \(3, 4\), expected one value per channel"),
        (np.zeros((0, 4, 4)), r"the mean has shape \(0, 4, 4\)"),
        (np.array(["a"]), "expected a .npy file of numbers, it holds <U1"),
        (np.array([None]), "expected a .npy file of numbers, it holds object"),
    ],
)
def test_npy_files_without_a_mean(array: np.ndarray, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", array, allow_pickle=True)
    with pytest.raises(FormatError, match=f"mean.npy: {words}"):
        read_mean_values(tmp_path / "mean.npy")


def test_damaged_npy_files(tmp_path: Path) -> None:
    path = tmp_path / "mean.npy"
    np.save(path, np.zeros((3, 2, 2)))
    data = path.read_bytes()
    for damaged, words in (
        (data[:-1], "but has only 95 bytes for them"),
        (data[:8], "a .npy file that is damaged or cut off"),
        (data.replace(b"(3, 2, 2), ", b"(3, 99999999999999999999, 2), "), "damaged|claims"),
        (data.replace(b"(3, 2, 2)", b"(-3,2,-2)"), "claims"),
        (data.replace(b"{'descr'", b"[[[[[[[["), "a .npy file that is damaged or cut off"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=words):
            read_mean_values(path)
    path.write_bytes(data)
    with pytest.raises(FormatError, match="--max-bytes"):
        read_mean_values(path, 100)
