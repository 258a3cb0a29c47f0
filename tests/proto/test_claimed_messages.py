"""The memory of binary messages is counted before protobuf allocates it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import FormatError
from caffecompat.input_files import ClaimedBytes
from caffecompat.proto import files
from caffecompat.proto.binary import dialects
from caffecompat.proto.binary import nets as binary_nets
from caffecompat.proto.binary.claimed_messages import count_messages, most_memory
from caffecompat.proto.descriptors import layout
from caffecompat.proto.text.parser import parse_text
from tests.sentences import advised_limit

# The key of NetParameter.layer and a length of 0.
EMPTY_LAYER = b"\xa2\x06\x00"
SIZE_OF_LAYER = 700


def count(data: bytes, message: str = "NetParameter") -> int:
    claimed = ClaimedBytes("x", len(data), 1 << 40)
    count_messages(data, dialects.descriptor(message, dialects.BVLC), claimed)
    return claimed.total


def refuse_to_parse(*_: Any) -> None:
    raise AssertionError("parsed before it was counted")


def test_a_net_of_empty_layers_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.caffemodel"
    path.write_bytes(EMPTY_LAYER * 100_000)
    for name in ("dialects._parse", "nets.without_unreadable_fields"):
        monkeypatch.setattr(f"caffecompat.proto.binary.{name}", refuse_to_parse)
    assert main(["upgrade-net", str(path), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "its messages would take 68,3" in error
    assert "add --max-bytes 153601024 (max_bytes=153601024 in Python)" in error
    with pytest.raises(FormatError, match="its messages would take"):
        binary_nets.read_binary_net(path)


def test_the_limit_is_lifted_as_the_message_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("caffecompat.input_files.CLAIM_ALLOWANCE", 2 << 20)
    path, target = tmp_path / "empty.caffemodel", tmp_path / "out"
    path.write_bytes(EMPTY_LAYER * 5_000)
    assert main(["upgrade-net", str(path), str(target)]) == 1
    advice = advised_limit(capsys.readouterr().err)
    assert main(["upgrade-net", str(path), str(target), *advice]) == 0
    assert target.read_bytes() == path.read_bytes()
    net, _ = binary_nets.read_binary_net(path, max_bytes=10**9)
    assert len(net.layer) == 5_000


@pytest.mark.parametrize("dialect", dialects.DIALECTS)
@pytest.mark.parametrize("name", ["NetParameter", "SolverParameter"])
def test_nothing_takes_more_than_the_most(name: str, dialect: str) -> None:
    """Each message that a net or solver can hold, as the value of the shortest field."""
    waiting, seen = [dialects.descriptor(name, dialect)], set()
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name in seen:
            continue
        seen.add(descriptor.full_name)
        waiting += [f.message_type for f in descriptor.fields if f.message_type is not None]
        # The key and the length are a byte each.
        most_bytes = layout(descriptor).size + count(b"\x08\x00", "BlobShape")
        assert most_bytes <= most_memory(2) - most_memory(0)


@pytest.mark.parametrize("dialect", ["ssd", "nvcaffe", "vgg2013"])
def test_messages_that_only_a_fork_has_count_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    """Each dialect that a file is parsed by is counted."""
    seen = []
    monkeypatch.setattr(
        binary_nets, "count_messages", lambda data, kind, claimed: seen.append(kind.file.name)
    )
    path = tmp_path / "n.bin"
    path.write_bytes(EMPTY_LAYER)
    binary_nets.upgrade_binary_net(path)
    assert any(dialect in name for name in seen)


def test_a_solver_with_a_net_of_empty_layers(tmp_path: Path) -> None:
    inner = EMPTY_LAYER * 100_000
    # Field 25, net_param, and its length.
    size = len(inner)
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    path = tmp_path / "s.bin"
    path.write_bytes(b"\xca\x01" + length + inner)
    with pytest.raises(FormatError, match="its messages would take"):
        files.read_binary(path, "SolverParameter")


def test_what_is_counted() -> None:
    assert SIZE_OF_LAYER < (count(EMPTY_LAYER * 11) - count(EMPTY_LAYER)) / 10 < 2 * SIZE_OF_LAYER
    text = """
    name: "n"
    layer { name: "a" type: "Convolution" convolution_param { weight_filler { type: "msra" } } }
    """
    net = parse_text(text, "NetParameter")[0]
    bare = net.SerializeToString()
    # The layer, its parameter and the filler.
    assert count(bare) > count(b"\x0a\x01n") + SIZE_OF_LAYER + 200
    # Weights take what they take in the file, however many there are.
    net.layer[0].blobs.add().data.extend([1.0] * 1000)
    assert count(net.SerializeToString()) < count(bare) + 200


@pytest.mark.parametrize(
    "data",
    [
        b"\xa2\x06",
        b"\xa2\x06\x7f",
        b"\xa2",
        b"\xff" * 20,
        b"\x07\x00",
        b"\x0b\x0c\x08",
        b"\xa2\x06\x02\x0b\x0c",
        b"\x09\x01",
        b"\x0d",
    ],
)
def test_malformed_bytes_end_the_count(data: bytes) -> None:
    assert count(data) > 0
    assert count(EMPTY_LAYER + data) > SIZE_OF_LAYER


def test_groups_are_passed_over() -> None:
    assert count(b"\x0b" * 5000) < 1 << 20
