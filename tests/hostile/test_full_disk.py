"""A writer that fails half-way leaves the old file unchanged, and no other files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.hdf5_writer import write_output
from caffecompat.errors import FileProblem
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.weights import (
    LayerWeights,
    SolverState,
    Weights,
    load_weights,
    save_weights,
    write_mean,
    write_state,
)
from tests.files.full_disk import small_disk

LARGEST = 200_000
ARRAY = np.arange(250_000, dtype=np.float32).reshape(500, 500)
WEIGHTS = Weights([LayerWeights("fc", "InnerProduct", [ARRAY])], "net")
# Each array fits, so that a library that writes late learns of the disk when it closes the file.
MANY = Weights([LayerWeights(f"fc{i}", "InnerProduct", [ARRAY[i : i + 2]]) for i in range(100)])
STATE = SolverState(7, "net_iter_7.caffemodel", [ARRAY])

Writer = Callable[[Path], None]
WRITERS: dict[str, Writer] = {
    "x.caffemodel": lambda path: save_weights(WEIGHTS, path),
    "v1.caffemodel": lambda path: save_weights(WEIGHTS, path, format="caffemodel-v1"),
    "x.caffemodel.h5": lambda path: save_weights(WEIGHTS, path),
    "many.caffemodel.h5": lambda path: save_weights(MANY, path),
    "out.h5": lambda path: write_output(str(path), ARRAY, ARRAY[0]),
    "x.npz": lambda path: save_weights(WEIGHTS, path),
    "x.pt": lambda path: save_weights(WEIGHTS, path, naming=torch_naming()),
    "x.solverstate": lambda path: write_state(STATE, path),
    "x.solverstate.h5": lambda path: write_state(STATE, path),
    "x.binaryproto": lambda path: write_mean(ARRAY[np.newaxis], path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_disk_is_full_before_the_end(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"what was there before")
    with small_disk(LARGEST), pytest.raises(FileProblem, match="cannot be written") as caught:
        WRITERS[name](path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]
    WRITERS[name](path)
    assert path.stat().st_size > LARGEST


@pytest.mark.parametrize("name", ["x.caffemodel", "x.caffemodel.h5", "x.npz", "x.solverstate"])
def test_the_disk_fails_at_the_very_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(b"before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileProblem, match="No space left on device"):
        WRITERS[name](path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_convert_onto_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.caffemodel", tmp_path / "b.caffemodel.h5"
    save_weights(WEIGHTS, source)
    save_weights(Weights([LayerWeights("old", "", [ARRAY[:2]])]), target)
    with small_disk(LARGEST):
        assert main(["convert", str(source), str(target), "--force"]) == 1
    assert f"{target}: cannot be written" in capsys.readouterr().err
    assert list(load_weights(target)) == ["old"]
    assert sorted(tmp_path.iterdir()) == [source, target]
