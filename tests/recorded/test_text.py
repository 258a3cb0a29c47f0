"""Text, printing and upgrades against what protobuf reads and BVLC Caffe wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from caffecompat.errors import CaffeError, TextError
from caffecompat.proto import files, schema
from caffecompat.proto.text.parser import format_text, parse_text
from caffecompat.proto.upgrades import upgrade_net

# protobuf's Python reader does not ask for required fields, Caffe does.
LAX_IN_PYTHON = {"clip_missing_required.prototxt"}

# Lists for fields that are single in BVLC's schema go to a field of their own (docs/dialects.md).
LISTS = {"c3d_yjxiong", "isbi_anisonet", "mobilenet_yolov3_lite", "tsn_bn_inception"}
# protobuf's Python reader takes the escape sequence "backslash M" with a warning, its C++ does not.
ESCAPES = {"mycaffe_gpt_mini"}


def prototxts(golden: Path) -> Iterator[tuple[Path, str, str]]:
    """Every prototxt beside this checkout: its path, its message, its text."""
    for folder in (golden, golden.parent / "zoo"):
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


def test_reads_and_refuses_what_protobuf_does(golden: Path) -> None:
    read = refused = 0
    for path, kind, text in prototxts(golden):
        if path.name in LAX_IN_PYTHON or path.parent.name in LISTS | ESCAPES:
            continue
        expected, expected_line = read_by_protobuf(text, kind)
        found, line = read_by_us(text, kind)
        assert found == expected, path
        # The first mistake is seen on the same line, unless the file is of another kind.
        assert line in (expected_line, 0), path
        read += found is not None
        refused += found is None
    assert read > 1000
    assert refused >= 8


def test_asks_for_required_fields(golden: Path) -> None:
    for name in LAX_IN_PYTHON:
        with pytest.raises(TextError, match="layer 'a': clip_param needs max"):
            files.read_net(golden / "layers" / "errors" / name)


def test_prints_what_protobuf_prints_and_reads_back(golden: Path) -> None:
    for path, kind, text in prototxts(golden):
        try:
            message = parse_text(text, kind)[0]
        except TextError:
            continue
        printed = format_text(message)
        again = text_format.Parse(printed, schema.new(kind))
        serialised = message.SerializeToString(deterministic=True)
        assert again.SerializeToString(deterministic=True) == serialised, path
        lines = text_format.MessageToString(message, as_utf8=False).splitlines()
        ours = printed.splitlines()
        assert len(ours) == len(lines), path
        for mine, theirs in zip(ours, lines, strict=True):
            # Digits of floats differ between protobuf's versions; the recorded outputs hold them.
            assert mine == theirs or same_number(mine, theirs), path


def same_number(mine: str, theirs: str) -> bool:
    (name, value), (other_name, other) = mine.split(": "), theirs.split(": ")
    return name == other_name and abs(float(value) - float(other)) <= 1e-6 * abs(float(other))


def cases(golden: Path, folder: str) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    recorded = json.loads((golden / "upgrade" / "cases.json").read_text())["cases"]
    for name, case in recorded.items():
        if name.startswith(folder + "/"):
            yield name, golden / "upgrade" / name, case


@pytest.mark.parametrize("folder", ["net", "solver"])
def test_upgraded_texts_are_those_that_caffe_wrote(golden: Path, folder: str) -> None:
    reader = files.read_net if folder == "net" else files.read_solver
    count = 0
    for name, stem, case in cases(golden, folder):
        source = stem.with_name(stem.name + ".in.prototxt")
        if not case["output"]:
            with pytest.raises(CaffeError):
                reader(source)
            continue
        message, origin = reader(source)
        expected = stem.with_name(stem.name + ".out.prototxt").read_text()
        assert format_text(message) == expected, name
        latest = any("already in latest" in line for line in case["messages"])
        assert bool(origin.notes) != latest, name
        count += 1
    assert count >= 9


def test_upgraded_binaries_are_those_that_caffe_wrote(golden: Path) -> None:
    for name, stem, case in cases(golden, "binary"):
        source = stem.with_name(stem.name + ".in.bin")
        if not case["output"]:
            with pytest.raises(CaffeError):
                upgrade_net(files.read_binary(source, "NetParameter"))
            continue
        message = files.read_binary(source, "NetParameter")
        upgrade_net(message)
        expected = stem.with_name(stem.name + ".out.bin").read_bytes()
        assert message.SerializeToString(deterministic=True) == expected, name


def test_what_caffe_printed_prints_the_same(golden: Path) -> None:
    count = 0
    for path in sorted((golden / "upgrade").glob("*/*.out.prototxt")):
        kind = "SolverParameter" if path.parent.name == "solver" else "NetParameter"
        assert format_text(files.read_text(path, kind)[0]) == path.read_text(), path.name
        count += 1
    assert count > 25
