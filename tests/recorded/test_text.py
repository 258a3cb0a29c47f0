"""Every recorded text is read and printed as protobuf reads and prints it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffecompat.errors import TextError
from caffecompat.proto import files, schema
from caffecompat.proto.text.parser import format_text, parse_text
from tests.recorded.location import RecordedCases
from tests.recorded.tally import Tally

# protobuf's Python reader does not ask for required fields, Caffe does.
LAX_IN_PYTHON = {"clip_missing_required.prototxt"}

# Lists for fields that are single in BVLC's schema go to a field of their own (docs/dialects.md).
LISTS = {"c3d_yjxiong", "isbi_anisonet", "mobilenet_yolov3_lite", "tsn_bn_inception"}
# protobuf's Python reader takes the escape sequence "backslash M" with a warning, its C++ does not.
ESCAPES = {"mycaffe_gpt_mini"}


def prototxts(recorded: RecordedCases) -> Iterator[tuple[Path, str, str]]:
    """Every recorded or published prototxt: its path, its message, its text."""
    for folder in filter(None, (recorded.folder, recorded.published)):
        for path in sorted(folder.rglob("*.prototxt")):
            solver = "solver" in path.name or path.parent.name == "solver"
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            yield path, "SolverParameter" if solver else "NetParameter", text


def read_by_protobuf(text: str, kind: str) -> tuple[bytes | None, int]:
    """The message serialised (NaN equals NaN then), or None and the line of the mistake."""
    try:
        message = text_format.Parse(text.encode("utf-8", "surrogateescape"), schema.new(kind))
        return message.SerializeToString(deterministic=True), 0
    except text_format.ParseError as error:
        return None, error.GetLine() or 0


def read_by_us(text: str, kind: str) -> tuple[bytes | None, int]:
    """The message serialised, or None and the line of the first mistake."""
    try:
        return parse_text(text, kind, "file")[0].SerializeToString(deterministic=True), 0
    except TextError as error:
        place = error.problems[0].split(": ")[0].split(":")
        return None, int(place[1]) if len(place) == 3 else 0


def test_reads_and_refuses_what_protobuf_does(recorded: RecordedCases) -> None:
    read = refused = 0
    tally = Tally()
    for path, kind, text in prototxts(recorded):
        if path.name in LAX_IN_PYTHON or path.parent.name in LISTS | ESCAPES:
            continue
        expected, expected_line = read_by_protobuf(text, kind)
        found, line = read_by_us(text, kind)
        with tally.case(path):
            assert found == expected
            # The first mistake is seen on the same line, unless the file is of another kind.
            assert line in (expected_line, 0)
        read += found is not None
        refused += found is None
    tally.close()
    assert read > (1000 if recorded.complete else 150)
    assert refused >= (8 if recorded.complete else 3)


def test_asks_for_required_fields(golden: Path) -> None:
    for name in LAX_IN_PYTHON:
        with pytest.raises(TextError, match="layer 'a': clip_param needs max"):
            files.read_net(golden / "layers" / "errors" / name)


def test_prints_what_protobuf_prints_and_reads_back(recorded: RecordedCases) -> None:
    tally = Tally()
    for path, kind, text in prototxts(recorded):
        try:
            message = parse_text(text, kind)[0]
        except TextError:
            continue
        with tally.case(path):
            assert_prints(message, kind)
    tally.close()


def assert_prints(message: Any, kind: str) -> None:
    printed = format_text(message)
    lines = text_format.MessageToString(message, as_utf8=False).splitlines()
    pairs = zip(printed.splitlines(), lines, strict=True)
    different = [(mine, theirs) for mine, theirs in pairs if mine != theirs]
    # Digits of floats differ between protobuf's versions; the recorded outputs hold them.
    assert all(same_number(mine, theirs) for mine, theirs in different)
    # protobuf reads back what it prints, and with it any other digits of the same floats.
    if not all(same_float(mine, theirs) for mine, theirs in different):
        again = text_format.Parse(printed, schema.new(kind))
        serialised = message.SerializeToString(deterministic=True)
        assert again.SerializeToString(deterministic=True) == serialised


def same_number(mine: str, theirs: str) -> bool:
    (name, value), (other_name, other) = mine.split(": "), theirs.split(": ")
    return name == other_name and abs(float(value) - float(other)) <= 1e-6 * abs(float(other))


def same_float(mine: str, theirs: str) -> bool:
    return bool(np.float32(mine.split(": ")[1]) == np.float32(theirs.split(": ")[1]))
