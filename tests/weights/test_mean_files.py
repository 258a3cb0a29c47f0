"""Mean files in every encoding that Caffe takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.weights import LayerWeights, Weights, read_mean, save_weights, wire, write_mean
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
