"""The file of posteriors, and their mean."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.evaluate.classification.posteriors import Posteriors, average, load, save


def some(seed: int = 0, count: int = 4, classes: int = 3) -> Posteriors:
    random = np.random.default_rng(seed)
    values = random.random((count, classes))
    values /= values.sum(1, keepdims=True)
    names = ("a.png", "ü", "\udcff", "d")[:count]
    labels = np.array([2, -1, 0, 1][:count])
    return Posteriors(names, np.arange(count), labels, values.astype(np.float32), {"flip": True})


@pytest.mark.parametrize("name", ["p.npz", "p.h5"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save(some(), path)
    found = load(path)
    assert found.names == some().names
    assert found.settings == {"flip": True}
    for name in ("indices", "labels", "values"):
        assert np.array_equal(getattr(found, name), getattr(some(), name))
    first = path.read_bytes()
    save(some(), path)
    assert path.read_bytes() == first


def test_hdf5_of_other_content(tmp_path: Path) -> None:
    path = tmp_path / "p.hdf5"
    with h5py.File(path, "w") as file:
        file["names"] = np.array([b"a"])
    with pytest.raises(
        FormatError, match=r"p.hdf5: this file holds no class posteriors, as .*: it"
    ):
        load(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(FormatError):
        load(path)


def test_average() -> None:
    found = average([some(0), some(1), some(2)])
    expected = np.mean([some(i).values.astype(np.float64) for i in range(3)], 0)
    np.testing.assert_allclose(found.values, expected, atol=1e-7)
    with pytest.raises(DataError, match="has 4 classes, member 1 has 3"):
        average([some(0), some(1, classes=4)])
    with pytest.raises(DataError, match="has 3 images, which are not the 4 of member 1"):
        average([some(0), some(1, count=3)])


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(FileProblem):
        load(path)
    save(some(), path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(FormatError):
        load(path)
    np.savez(path, names=np.array([object()]), indices=0, labels=0, posteriors=0, settings=0)
    with pytest.raises(FormatError, match="damaged"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"")
    with pytest.raises(FormatError, match="holds no class posteriors"):
        load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.array([0, 1, 2])}, "do not belong together"),
        ({"values": np.zeros((4, 3))}, "do not belong together"),
        ({"labels": np.array([0, 1, 2, 3])}, "labels go from 0 to 3, but there are 3 classes"),
    ],
)
def test_arrays_that_do_not_fit(change: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    found = some()
    parts: dict[str, Any] = {
        "indices": found.indices,
        "labels": found.labels,
        "values": found.values,
        **change,
    }
    save(Posteriors(found.names, **parts), tmp_path / "p.npz")
    with pytest.raises(FormatError, match=words):
        load(tmp_path / "p.npz")
