"""Blobs of a net's data as databases."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum

NET = """
layer { name: "d" type: "DummyData" top: "data"
        dummy_data_param { shape { dim: 3 dim: 2 dim: 4 dim: 5 }
                           data_filler { type: "gaussian" } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 3 kernel_size: 2 weight_filler { type: "xavier" } } }
layer { name: "f" type: "InnerProduct" bottom: "conv" top: "feat"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
"""

# float_data of a Datum: 0.
ZERO = b"5\x00\x00\x00\x00"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Net("net.prototxt", seed=2).save("w.caffemodel")
    return tmp_path


def extract(*words: str) -> int:
    return main(["extract_features", "w.caffemodel", "net.prototxt", *words])


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_rows_of_two_blobs(backend: str, folder: Path) -> None:
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    assert extract("conv,feat", "a,b", "2", backend, "CPU") == 0
    net = Net("net.prototxt", weights="w.caffemodel")
    net.observe = True
    for name, blob in (("a", "conv"), ("b", "feat")):
        with open_database(name, backend) as database:
            records = [database.read(index) for index in range(len(database))]
        assert [key for key, _ in records] == [f"{i:010d}".encode() for i in range(6)]
        for batch in range(2):
            net.run(batch)
            rows = net.blobs[blob].data.numpy()
            for index in range(3):
                datum = parse_datum(records[3 * batch + index][1])
                assert not datum.HasField("label")
                expected = rows[index].reshape((*rows[index].shape, 1, 1)[:3])
                np.testing.assert_array_equal(decode_datum(datum), expected)


@pytest.mark.parametrize("backend", ["hdf5", "npz"])
def test_files_of_arrays(backend: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert extract("conv,feat", "a.out,b.out", "2", backend) == 0
    net = Net("net.prototxt", weights="w.caffemodel")
    net.observe = True
    expected: dict[str, list[np.ndarray]] = {"conv": [], "feat": []}
    for batch in range(2):
        net.run(batch)
        for name, rows in expected.items():
            rows.append(net.blobs[name].data.numpy().copy())
    for path, name in (("a.out", "conv"), ("b.out", "feat")):
        with h5py.File(path) if backend == "hdf5" else np.load(path) as content:
            assert list(content) == [name]
            np.testing.assert_array_equal(content[name][()], np.concatenate(expected[name]))
    written = Path("a.out").read_bytes()
    assert extract("conv", "a.out", "1", backend) == 1
    assert "a.out" in capsys.readouterr().err
    assert Path("a.out").read_bytes() == written


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["feat,fc8", "a,b", "1", "lmdb"], "no blob 'fc8' in this net"),
        (["feat", "a,b", "1", "lmdb"], "1 blobs (feat) but 2 databases (a, b)"),
        (["feat", "a", "0", "lmdb"], "the number of batches is 0"),
        (["feat", "a", "1", "sqlite"], "SQLITE"),
        (["feat", "w.caffemodel", "1", "lmdb"], "w.caffemodel"),
    ],
)
def test_bad_input(
    words: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract(*words) == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
    assert not Path("a").exists()


def test_a_blob_without_axes_is_one_row(folder: Path) -> None:
    """As in Caffe: a loss has one record for each pass, of one value."""
    text = NET + 'layer { name: "e" type: "EuclideanLoss" bottom: "feat" bottom: "feat" top: "e" }'
    Path("net.prototxt").write_text(text)
    assert extract("e", "a", "2", "lmdb") == 0
    with open_database("a", "lmdb") as database:
        records = [database.read(index) for index in range(len(database))]
    assert [key for key, _ in records] == [b"0000000000", b"0000000001"]
    # Written by BVLC Caffe 1.0.
    assert [record for _, record in records] == [b"\x08\x01\x10\x01\x18\x01" + ZERO] * 2


def test_each_thousand_rows_is_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert extract("feat", "a", "340", "npz") == 0
    lines = [record.getMessage() for record in caplog.records if "query" in record.getMessage()]
    counts = [f"Extracted features of {n} query images for feature blob feat" for n in (1000, 1020)]
    assert lines == counts
