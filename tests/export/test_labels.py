"""Files with the names of the classes."""

from __future__ import annotations

from pathlib import Path

from caffecompat.export.convert.image_preparation import read_labels


def test_marks_and_empty_lines(tmp_path: Path) -> None:
    """Editors of Windows write a mark, others a last line with nothing in it."""
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n\r\nbig dog \r\n\r\n \n")
    assert read_labels(str(path)) == ("cat", "", "big dog")
