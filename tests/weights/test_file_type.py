"""Files without weights are named in one sentence."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import FileProblem, FormatError
from caffecompat.weights import (
    LayerWeights,
    SolverState,
    Weights,
    load_weights,
    save_weights,
    write_mean,
    write_state,
)

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PROTOTXT = b'\nname: "net"\nlayer { name: "conv" type: "Convolution" }\n'
V1_PROTOTXT = b"layers {\n  type: RELU\n}\n"
HTML = b"\n<!DOCTYPE html>\n<html><head><title>404</title>"


def zipped(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.caffemodel"))
    return stream.getvalue()


def one_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (PROTOTXT, "this is prototxt text, a definition; the weights are in a binary file"),
        (V1_PROTOTXT, "this is prototxt text"),
        (LFS, "this is a Git LFS pointer, not the file itself (run: git lfs pull)"),
        (HTML, "this is a web page, not the file itself"),
        (b'{"a": 1}', "this is JSON"),
        (b"some words\n", "this is plain text"),
        (gzip.compress(b"x"), "this is a gzip archive; unpack it first"),
        (zipped(["a.txt", "b/c.caffemodel"]), "this is a zip archive with a.txt, b/c.caffemodel"),
        (zipped([]), "this is a zip archive with nothing in it"),
        (zipped(["a.txt"])[:40], "this is a damaged zip archive"),
        (tarred(), "this is a tar archive"),
        (one_array(), "this is a single NumPy array"),
        (pickle.dumps({"a": 1}), "this is a Python pickle, which is never opened"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNX86", "this is a MATLAB file"),
        (b"\x89PNG\r\n\x1a\n\0\0", "this is a PNG image"),
        (bytes(16) + b"\xde\xc0\xef\xbe\1\0\0\0", "this is an LMDB database"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "this is an HDF5 file that is damaged or cut off"),
        (bytes(200), "byte 0: 0 is not a field number"),
        (b"\n\x04net\0", "it has no layers"),
    ],
    ids=itertools.count(),  # the data have the time in them
)
def test_what_it_is_and_not_what_it_is_not(data: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.caffemodel"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert sentence in message
    assert "\n" not in message


def test_missing_files_folders_and_pipes(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="there is no such file"):
        load_weights(tmp_path / "none.caffemodel")
    with pytest.raises(FileProblem, match="is a folder, expected a file"):
        load_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileProblem, match="is a pipe, expected a file"):
        load_weights(tmp_path / "pipe")
    with pytest.raises(FileProblem, match="cannot be read"):
        load_weights("a\0b")


def test_solver_states_and_means_are_named_with_a_remedy(tmp_path: Path) -> None:
    state = SolverState(7, "net_iter_7.caffemodel", [np.zeros((2, 3), np.float32)])
    for name in ("x.solverstate", "x.solverstate.h5"):
        write_state(state, tmp_path / name)
        with pytest.raises(FormatError, match=r"a solver state.*pass it as the snapshot"):
            load_weights(tmp_path / name)
    write_mean(np.zeros((3, 2, 4)), tmp_path / "mean.binaryproto")
    with pytest.raises(FormatError, match="a single array"):
        load_weights(tmp_path / "mean.binaryproto")


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    weights = Weights([LayerWeights("fc", "", [np.ones((2, 3), np.float32)])])
    for format_name in ("caffemodel", "npz", "hdf5"):
        save_weights(weights, tmp_path / "named.jpg", format=format_name)
        assert load_weights(tmp_path / "named.jpg")["fc"].blobs[0].shape == (2, 3)
