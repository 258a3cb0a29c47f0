"""MNIST and CIFAR from their own files: the records that Caffe's tools write."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.tools.mnist import convert_mnist, convert_mnist_siamese
from caffecompat.errors import CaffeError
from tests.sentences import assert_one_sentence

COUNT = 30
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 5, 4), np.uint8)
LABELS = np.arange(COUNT, dtype=np.uint8) * 7 % 10


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").write_bytes(struct.pack(">IIII", 2051, *PIXELS.shape) + PIXELS.tobytes())
    Path("labels").write_bytes(struct.pack(">II", 2049, COUNT) + LABELS.tobytes())


def records(path: str) -> list[tuple[bytes, bytes]]:
    with open_database(path) as database:
        return [database.read(number) for number in range(len(database))]


def caffes_datum(pixels: np.ndarray, label: int) -> bytes:
    """By hand, field by field: channels, height, width, data, label, and nothing else."""
    data = pixels.tobytes()
    head = bytes([0x08, pixels.shape[0], 0x10, pixels.shape[1], 0x18, pixels.shape[2], 0x22])
    size = len(data)
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return head + length + data + bytes([0x28, label])


EXPECTED = [(b"%08d" % n, caffes_datum(PIXELS[n][None], int(LABELS[n]))) for n in range(COUNT)]


@pytest.mark.parametrize(
    "words",
    [
        ["convert_mnist_data", "images", "labels", "db", "--backend=lmdb"],
        ["convert-mnist-data", "images", "labels", "db"],
        ["dataset", "import", "mnist", "images", "labels", "db"],
        ["convert_mnist_data.bin", "-backend", "lmdb", "images", "labels", "db"],
    ],
)
def test_mnist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert records("db") == EXPECTED
    err = capsys.readouterr().err
    for line in ("A total of 30 items.", "Rows: 5 Cols: 4", "Processed 30 files."):
        assert line in err


def test_packed_files() -> None:
    for name in ("images", "labels"):
        Path(f"{name}.gz").write_bytes(gzip.compress(Path(name).read_bytes()))
    assert convert_mnist("images.gz", "labels.gz", "db") == COUNT
    assert records("db") == EXPECTED


def test_siamese_pairs() -> None:
    assert main(["convert_mnist_siamese_data", "--backend", "lmdb", "images", "labels", "db"]) == 0
    found = records("db")
    assert [key for key, _ in found] == [b"%08d" % n for n in range(COUNT)]
    where = {PIXELS[n].tobytes(): n for n in range(COUNT)}
    drawn = []
    for _, value in found:
        datum = parse_datum(value)
        pixels = decode_datum(datum)
        assert pixels.shape == (2, 5, 4)
        i, j = (where[image.tobytes()] for image in pixels)
        assert datum.label == int(LABELS[i] == LABELS[j])
        assert value == caffes_datum(pixels, datum.label)
        drawn.append((i, j))
    # Drawn one by one and independently: neither in order nor without repeating.
    assert len({i for i, _ in drawn}) < COUNT
    assert drawn != sorted(drawn)
    assert len(set(drawn)) > COUNT // 2
    convert_mnist_siamese("images", "labels", "again", "LMDB")
    convert_mnist_siamese("images", "labels", "other", "LMDB", seed=1)
    assert records("again") == found != records("other")


def test_a_leveldb_of_pairs_is_the_default() -> None:
    pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    assert main(["dataset", "import", "mnist-siamese", "images", "labels", "db"]) == 0
    with open_database("db", "LEVELDB") as database:
        assert len(database) == COUNT


def write_cifar(folder: str, names: list[str], labels: int, rows: int = 4) -> dict[str, np.ndarray]:
    Path(folder).mkdir()
    made = {}
    for seed, name in enumerate(names):
        made[name] = np.random.default_rng(seed).integers(0, 100, (rows, labels + 3072), np.uint8)
        (Path(folder) / name).write_bytes(made[name].tobytes())
    return made


def test_cifar10(capsys: pytest.CaptureFixture[str]) -> None:
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    made = write_cifar("bin", names, 1)
    assert main(["convert_cifar_data", "bin", "out/cifar10", "lmdb"]) == 0
    assert "Writing Training data" in capsys.readouterr().err
    train = np.concatenate([made[name] for name in names[:5]])
    for part, rows in (("train", train), ("test", made["test_batch.bin"])):
        assert records(f"out/cifar10/cifar10_{part}_lmdb") == [
            (b"%05d" % n, caffes_datum(row[1:].reshape(3, 32, 32), int(row[0])))
            for n, row in enumerate(rows)
        ]
    assert main(["dataset", "import", "cifar10", "bin", "."]) == 0
    assert records("cifar10_test_lmdb") == records("out/cifar10/cifar10_test_lmdb")


@pytest.mark.parametrize(("flags", "column"), [([], 1), (["--coarse"], 0)])
def test_cifar100(flags: list[str], column: int) -> None:
    made = write_cifar("bin", ["train.bin", "test.bin"], 2)
    assert main(["dataset", "import", "cifar100", *flags, "bin", "."]) == 0
    found = [parse_datum(value) for _, value in records("cifar100_train_lmdb")]
    assert [datum.label for datum in found] == made["train.bin"][:, column].tolist()
    assert [datum.data for datum in found] == [row[2:].tobytes() for row in made["train.bin"]]


def refused(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    before = sorted(Path().rglob("*"))
    assert main([*words]) == 1
    assert sorted(Path().rglob("*")) == before
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert_one_sentence(line)
    return line


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ("labels", "images", "labels: this holds labels, expected images"),
        ("images", "images", "images: this holds images, expected labels"),
        ("nosuch", "labels", "nosuch: there is no such file"),
        ("text", "labels", "text: this is not an idx file of bytes"),
        ("images", "two", "two: it has 2 labels, but images has 30 images"),
        ("short", "labels", "short: the file is cut off: it has 500 values of 600 (30x5x4)"),
        ("cut.gz", "labels", "cut.gz: the gzip file is cut off or damaged"),
        ("packed", "labels", "packed: there is no such file; give packed.gz"),
        ("bomb", "labels", "the limit is"),
        ("bomb.gz", "labels", "the limit is"),
        (".", "labels", "is a folder"),
    ],
)
def test_files_that_will_not_do(
    images: str, labels: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path("images").read_bytes()
    Path("text").write_text("hello world")
    Path("two").write_bytes(struct.pack(">II", 2049, 2) + b"ab")
    Path("short").write_bytes(whole[:516])
    Path("cut.gz").write_bytes(gzip.compress(whole)[:-200])
    Path("packed.gz").write_bytes(gzip.compress(whole))
    Path("bomb").write_bytes(struct.pack(">IIII", 2051, 1 << 31, 1 << 15, 1 << 15))
    Path("bomb.gz").write_bytes(gzip.compress(Path("bomb").read_bytes()))
    assert words in refused("convert-mnist-data", images, labels, "db", capsys=capsys)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("nosuch", "nosuch must hold the binary version"),
        ("cifar.tar.gz", "unpack it and give the folder: tar xzf cifar.tar.gz"),
        ("python", "holds the Python version"),
        ("above", "did you mean above/cifar-10-batches-bin ?"),
        ("cut", "its 3,000 bytes are not a multiple of the record size of 3,073 bytes"),
    ],
)
def test_folders_that_will_not_do(
    folder: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cifar.tar.gz").write_bytes(b"x")
    for name in ("python/data_batch_1", "above/cifar-10-batches-bin/data_batch_1.bin"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_bytes(b"x")
    Path("cut").mkdir()
    Path("cut/data_batch_1.bin").write_bytes(b"x" * 3000)
    assert words in refused("convert-cifar-data", folder, "out", capsys=capsys)


def test_an_existing_database_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("db").mkdir()
    assert "already exists" in refused(
        "convert-mnist-data", "images", "labels", "db", capsys=capsys
    )


def test_databases_from_python() -> None:
    import caffecompat

    floats = PIXELS[:2].astype(np.float64)[:, None] / 3
    jpeg = b"\xff\xd8 the bytes of a file"
    pairs: list[tuple[Any, int]] = [(PIXELS[0][None], 3), (floats[1], 4), (jpeg, 5)]
    assert caffecompat.write_database("sets/new_lmdb", pairs) == 3
    found = records("sets/new_lmdb")
    assert found[0] == (b"00000000", caffes_datum(PIXELS[0][None], 3))
    datum = parse_datum(found[1][1])
    assert np.array_equal(decode_datum(datum), floats[1].astype(np.float32))
    datum = parse_datum(found[2][1])
    assert (datum.data, datum.encoded, datum.label) == (jpeg, True, 5)
    refused_records: list[tuple[Any, str]] = [
        ([(PIXELS[0], 1)], r"record 0: .*shape \(5, 4\), expected channels, height and width"),
        ([(PIXELS[0][None], "x")], "record 0: "),
        ([PIXELS[0][None]], "record 0: .*expected an image and its label"),
        ([(np.array([[["a"]]]), 1)], "expected numbers"),
    ]
    for bad, words in refused_records:
        with pytest.raises(CaffeError, match=words):
            caffecompat.write_database("bad", bad)
        assert not Path("bad").exists()
