"""Files made to break a reader: one sentence, little memory, little time, nothing run."""

from __future__ import annotations

import pickle
import pkgutil
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import CaffeError, FormatError
from caffecompat.proto.files import read_net
from caffecompat.weights import load_weights, read_state
from caffecompat.weights.encodings import wire
from tests.hostile.attacks import FLOATS, GOOD, Attack, attacks, layer, message, shape
from tests.sentences import advised_limit

# What any file may claim beside four times its size, and 16 MiB.
MOST_MEMORY = 80 << 20
MOST_SECONDS = 60  # of this process, while every allocation is traced, which takes most of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacks")


def names() -> list[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        return [attack.name for attack in attacks(Path(place))]


@pytest.fixture(scope="module")
def by_name(folder: Path) -> dict[str, Attack]:
    return {attack.name: attack for attack in attacks(folder)}


@pytest.mark.parametrize("name", names())
def test_one_sentence(
    name: str,
    by_name: dict[str, Attack],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attack = by_name[name]
    most_memory = MOST_MEMORY
    if attack.limit:
        monkeypatch.setattr(attack.limit, pkgutil.resolve_name(attack.limit) // 10)
        most_memory //= 10
    path = tmp_path / attack.file
    path.write_bytes(attack.data)
    start = time.process_time()
    tracemalloc.start()
    try:
        code = main(["inspect", str(path)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    lines = capsys.readouterr().err.splitlines()
    assert code == 1
    assert lines
    assert all(line.startswith("caffecompat: error: ") for line in lines)
    assert str(path) in lines[0]
    assert attack.sentence in " ".join(lines)
    assert len(lines) == 1 or attack.file.endswith(".prototxt")
    assert peak < most_memory + 4 * len(attack.data)
    assert time.process_time() - start < MOST_SECONDS


def test_every_attack_differs_from_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "good.caffemodel").write_bytes(GOOD)
    weights = load_weights(tmp_path / "good.caffemodel")
    np.testing.assert_array_equal(weights["fc"].blobs[0], [[0, 1, 2], [3, 4, 5]])


def test_a_storm_of_loose_values_is_read_in_little_memory(tmp_path: Path) -> None:
    """Values one by one between unknown fields: legal, and Caffe reads it."""
    count = 20_000
    record = b"\x2d\x00\x00\x80\x3f\x78\x01"
    path = tmp_path / "storm.caffemodel"
    path.write_bytes(layer(shape(count) + record * count))
    tracemalloc.start()
    try:
        values = load_weights(path)["fc"].blobs[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values.shape == (count,)
    assert values.min() == values.max() == 1
    assert peak < 16 * count + 500_000  # the file itself is 7 bytes per value


@pytest.mark.parametrize(
    "storm",
    [b"\x08\1\x10\1" * 600, b"\x3b\x3c" * 600, message(100, b"\x0a\0\x12\0" * 600)],
    ids=["two numbers in turns", "groups", "inside a layer"],
)
def test_fields_of_a_file_are_counted(
    storm: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All messages of a file share one count, so that no form of nesting takes for ever."""
    path = tmp_path / "x.caffemodel"
    path.write_bytes(GOOD + storm)
    assert load_weights(path)["fc"].blobs[0].shape == (2, 3)
    monkeypatch.setattr(wire, "MAX_FIELDS", 1000)
    with pytest.raises(FormatError, match="more than 1,000 fields, which no model has"):
        load_weights(path)


@pytest.mark.parametrize("number", [b"\x01", b"\xff" * 9 + b"\x01", b"\x81\x01"])
@pytest.mark.parametrize("key", [b"\x08", b"\xd0\x06"])
def test_a_run_of_numbers_is_one_field(
    key: bytes, number: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipped at once, for any length; the fields behind them are read."""
    path = tmp_path / "x.caffemodel"
    monkeypatch.setattr(wire, "MAX_FIELDS", 100)
    for count in (1, 63, 64, 65, 1000, 100_000):
        path.write_bytes((key + number) * count + GOOD)
        assert load_weights(path)["fc"].blobs[0].shape == (2, 3), count


def test_a_number_that_is_too_long_ends_a_run(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    path.write_bytes(GOOD + b"\x08\x01" * 100 + b"\x08" + b"\xff" * 10 + b"\x01")
    with pytest.raises(FormatError, match="a number is longer than 10 bytes"):
        load_weights(path)


def test_of_a_run_the_last_number_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.solverstate"
    numbers = b"".join(b"\x08" + wire.varint(value) for value in [*range(900), 77])
    path.write_bytes(b"\x08\x01\x12\x01w" + numbers)
    assert read_state(path).iteration == 77


def test_a_million_strings_cost_no_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tops.caffemodel"
    body = b"\n\x01a" + b"\x22\x00" * 60_000
    path.write_bytes(b"\xa2\x06" + wire.varint(len(body)) + body)
    tracemalloc.start()
    try:
        assert len(load_weights(path).layers[0].tops) == 60_000
        assert tracemalloc.get_traced_memory()[1] < 8 * len(body)
    finally:
        tracemalloc.stop()


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch", "npz"])
def test_nothing_is_ever_unpickled(kind: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "weights"
    trap = Trap(trace)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(trap))
    elif kind == "npz":
        with zipfile.ZipFile(path, "w") as archive, archive.open("fc/0.npy", "w") as file:
            np.lib.format.write_array(file, np.array([trap], dtype=object))
    else:
        torch.save({"fc.weight": trap}, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(FormatError, match=r"never|expected numbers"):
        load_weights(path)
    assert not trace.exists()
    if kind == "pickle":
        pickle.loads(path.read_bytes())
        assert trace.exists(), "the trap itself works"


def test_tensors_that_share_a_storage_are_counted(tmp_path: Path) -> None:
    """In bf16 each view becomes an array of its own."""
    path = tmp_path / "x.pt"
    storage = torch.ones(200_000, dtype=torch.bfloat16)
    torch.save({f"fc{index}.weight": storage.view(-1) for index in range(200)}, path)
    with pytest.raises(FormatError, match=r"x\.pt: its tensors would take .* --max-bytes"):
        load_weights(path)
    assert len(load_weights(path, max_bytes=1 << 30)) == 200


def test_tied_weights_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    tied = torch.ones(3000, 1000)
    torch.save({"embed.weight": tied, "output.weight": tied}, path)
    assert [w.blobs[0].shape for w in load_weights(path).layers] == [(3000, 1000)] * 2


@pytest.mark.parametrize("name", ["npz of packed zeros", "HDF5 packed zeros"])
def test_a_limit_can_be_lifted(
    name: str, by_name: dict[str, Attack], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The advice of the message, to the letter."""
    attack = by_name[name]
    path = tmp_path / attack.file
    path.write_bytes(attack.data)
    command = ["convert", str(path), str(tmp_path / "out.caffemodel")]
    assert main(command) == 1
    advice = advised_limit(capsys.readouterr().err)
    assert main([*command, *advice]) == 0
    assert main(["diff", str(path), str(path), *advice]) == 0
    assert main(["inspect", str(path), "--max-bytes", "1000"]) == 1
    assert "more than the limit of 1,000" in capsys.readouterr().err


def test_prototxt_and_caffemodel_in_each_others_place(tmp_path: Path) -> None:
    text, binary = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    text.write_text('name: "net"\nlayer { name: "a" type: "ReLU" }\n')
    binary.write_bytes(GOOD)
    with pytest.raises(FormatError, match="this is prototxt text, a definition"):
        load_weights(text)
    with pytest.raises(FormatError, match=r"this is a binary file \(perhaps a .caffemodel"):
        read_net(binary)


def test_every_length_and_every_bit_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    damaged = [GOOD[:length] for length in range(len(GOOD))]
    damaged += [
        GOOD[:at] + bytes([GOOD[at] ^ 1 << bit]) + GOOD[at + 1 :]
        for at in range(len(GOOD))
        for bit in range(8)
    ]
    sentences = []
    for data in damaged:
        path.write_bytes(data)
        try:
            load_weights(path)
        except CaffeError as error:
            sentences.append(str(error))
    assert all(sentence.startswith(f"{path}: ") for sentence in sentences)
    assert not any("\n" in sentence for sentence in sentences)
    # What is left is bits of names and values, which nobody can tell from good ones.
    assert len(sentences) > len(damaged) - 8 * (len(FLOATS) + 20)
