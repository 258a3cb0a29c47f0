"""Readers take regular files of a stated size, and count what they claim."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import ClaimedBytes, open_input, read_input


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "net.prototxt"
    file.write_bytes(b"name: 'a'")
    assert read_input(file) == b"name: 'a'"


def test_a_pipe_without_a_writer_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileProblem, match="pipe: is a pipe, expected a file"):
        open_input(tmp_path / "pipe")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/urandom"])
def test_devices_are_refused(device: str) -> None:
    with pytest.raises(FileProblem, match="is a device, expected a file"):
        read_input(device)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="is a folder, expected a file"):
        open_input(tmp_path)
    with pytest.raises(FileProblem, match="there is no such file"):
        open_input(tmp_path / "none")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(FileProblem, match=r"cannot be read: .*embedded null"):
        open_input("a\0b")


def test_the_size_limit(tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"x" * 101)
    with pytest.raises(FormatError, match=r"101 bytes, more than the limit of 100 .*--max-bytes"):
        read_input(file, max_bytes=100)
    assert len(read_input(file, max_bytes=101)) == 101


def test_standard_input_is_held_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 50)))
    with pytest.raises(FormatError, match="standard input: 11 bytes, more than the limit of 10"):
        read_input("-", max_bytes=10)


def test_claims_are_added_up() -> None:
    claims = ClaimedBytes("w.npz", file_bytes=1000, max_bytes=5000)
    claims.add(3000)
    with pytest.raises(FormatError, match=r"w\.npz: tensor 'a' would take 6,000 bytes or more"):
        claims.add(3000, "tensor 'a'")


def test_the_default_limit_grows_with_the_file() -> None:
    small, large = ClaimedBytes("a", 0), ClaimedBytes("a", 1 << 30)
    assert small.limit == 64 << 20
    assert large.limit == (4 << 30) + (64 << 20)


@pytest.mark.parametrize("address", ["https://host/net.caffemodel", "s3://bucket/net.caffemodel"])
def test_an_address_is_no_missing_file(address: str) -> None:
    with pytest.raises(FileProblem, match="this is an address; nothing is read from a network"):
        open_input(address)
    with pytest.raises(FileProblem, match="download it, and name the file"):
        open_input(Path(address))
