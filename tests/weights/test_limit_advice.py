"""The limit that a message about claimed sizes advises is enough, for each kind of file.

The files hold more in memory than the limits of these tests admit, in several arrays each.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.data.tools.mnist import read_idx
from caffecompat.errors import FormatError
from caffecompat.export.matconvnet.mat_file import read_mat
from caffecompat.proto.files import read_binary
from caffecompat.weights import load_weights
from tests.sentences import advised_limit

SHAPE = (2, 300, 7)
COUNT = 2 * 300 * 7
Read = Callable[..., object]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffecompat.input_files.CLAIM_FACTOR", 1)
    monkeypatch.setattr("caffecompat.input_files.CLAIM_ALLOWANCE", 100)


def write_npz(path: Path) -> None:
    zeros = {f"layer{n}/0": np.zeros(SHAPE, np.float16) for n in range(4)}
    np.savez_compressed(path, **zeros)  # type: ignore[arg-type]


def write_pt(path: Path) -> None:
    tied = torch.ones(SHAPE, dtype=torch.float16)
    torch.save({f"layer{n}.weight": tied for n in range(4)}, path)


def write_safetensors(path: Path) -> None:
    entries = [
        f'"layer{n}.weight": {{"dtype": "U8", "shape": {[*SHAPE]}, '
        f'"data_offsets": [{n * COUNT}, {(n + 1) * COUNT}]}}'
        for n in range(4)
    ]
    header = f"{{{', '.join(entries)}}}".encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4 * COUNT))


def write_mat(path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    content = {f"v{n}": np.zeros(SHAPE) for n in range(4)}
    savemat(path, {**content, "text": "a" * 5000}, do_compression=True)


def write_idx(path: Path) -> None:
    head = b"".join(number.to_bytes(4, "big") for number in (2051, 60, 5, 70))
    path.write_bytes(gzip.compress(head + bytes(60 * 5 * 70)))


def write_solver(path: Path) -> None:
    # SolverParameter.test_state, empty.
    path.write_bytes(b"\xd2\x01\x00" * 1000)


FILES: list[tuple[str, Callable[[Path], None], Read]] = [
    ("w.npz", write_npz, load_weights),
    ("w.pt", write_pt, load_weights),
    ("w.safetensors", write_safetensors, load_weights),
    ("w.mat", write_mat, read_mat),
    ("images.gz", write_idx, lambda path, **limit: read_idx(str(path), 2051, **limit)),
    (
        "solver.bin",
        write_solver,
        lambda path, **limit: read_binary(path, "SolverParameter", **limit),
    ),
]


@pytest.mark.parametrize(("name", "write", "read"), FILES, ids=[name for name, *_ in FILES])
def test_the_advised_limit_is_enough(
    name: str, write: Callable[[Path], None], read: Read, tmp_path: Path, small_limits: None
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(FormatError, match=" would take ") as caught:
        read(path)
    read(path, max_bytes=int(advised_limit(str(caught.value))[1]))


@pytest.mark.parametrize("name", [name for name, *_ in FILES])
def test_a_limit_below_the_size_of_the_file(name: str, tmp_path: Path) -> None:
    """The advised one lets the content claim what it may by default."""
    write, read = next((write, read) for other, write, read in FILES if other == name)
    path = tmp_path / name
    write(path)
    with pytest.raises(FormatError, match=r"the limit (of|is) 60") as caught:
        read(path, max_bytes=60)
    read(path, max_bytes=int(advised_limit(str(caught.value))[1]))


def test_hdf5_of_several_packed_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.caffemodel.h5"
    with h5py.File(path, "w") as file:
        for number in range(5):
            zeros = np.zeros((5_000, 2, 1_000), np.float16)
            file.create_dataset(f"data/layer{number}/0", data=zeros, compression="gzip")
    assert main(["inspect", str(path)]) == 1
    advice = advised_limit(capsys.readouterr().err)
    assert main(["inspect", str(path), *advice]) == 0


def test_standard_input_above_the_limit_of_texts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("caffecompat.proto.files.MAX_PROTOTXT_BYTES", 10)
    monkeypatch.setattr("caffecompat.input_files.MAX_TEXT_BYTES", 10)

    def run(*words: str) -> int:
        text = b'layer { name: "a" type: "ReLU" bottom: "x" top: "y" }'
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
        return main(["upgrade-net", "-", str(tmp_path / "out"), *words])

    assert run() == 1
    error = capsys.readouterr().err
    assert "standard input: 11 bytes, more than the limit of 10" in error
    assert run(*advised_limit(error)) == 0


def test_hdf5_of_large_chunks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.caffemodel.h5"
    with h5py.File(path, "w") as file:
        zeros = np.zeros((3, 5), np.float32)
        chunks = {"maxshape": (None, 5), "chunks": (100_000, 5), "compression": "gzip"}
        file.create_dataset("data/fc/0", data=zeros, **chunks)
    words = "is stored in chunks of 2,000,000 bytes, more than the limit of 100,000; "
    with pytest.raises(FormatError, match=words) as caught:
        load_weights(path, max_bytes=100_000)
    limit = int(advised_limit(str(caught.value))[1])
    assert load_weights(path, max_bytes=limit)["fc"].blobs[0].shape == (3, 5)
    assert main(["inspect", str(path), "--max-bytes", "100000"]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert main(["inspect", str(path), *advised_limit(error)]) == 0
