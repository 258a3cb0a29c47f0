"""Old definitions and their upgrades, against what Caffe's tools wrote, said and returned."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import CaffeError
from caffecompat.proto import files
from caffecompat.proto.text.parser import format_text
from caffecompat.proto.upgrades import upgrade_net
from tests.recorded.cases import Case
from tests.recorded.exceptions import EXCEPTIONS

SUFFIX = {"net": "prototxt", "solver": "prototxt", "binary": "bin"}


def source_of(case: Case) -> Path:
    return case.path.with_name(f"{case.path.name}.in.{SUFFIX[case.path.parent.name]}")


def recorded_output(case: Case) -> Path:
    return case.path.with_name(f"{case.path.name}.out.{SUFFIX[case.path.parent.name]}")


def exception(case: Case) -> bool:
    """Whether Caffe refuses the file and we, on purpose, read it."""
    kind, name = case.path.parent.name, case.path.name.removeprefix("fail_")
    return kind == "net" and f"upgrade/{name}" in EXCEPTIONS and not case.facts["output"]


@pytest.mark.recorded_cases("upgrades")
def test_readers(case: Case) -> None:
    """What a reader makes of the file is what Caffe's tool wrote."""
    if exception(case):
        assert read_upgraded(case)[1]
        return
    if not case.facts["output"]:
        with pytest.raises(CaffeError):
            read_upgraded(case)
        return
    content, upgraded = read_upgraded(case)
    assert content == recorded_output(case).read_bytes()
    latest = any("already in latest" in line for line in case.facts["messages"])
    assert upgraded != latest


def read_upgraded(case: Case) -> tuple[bytes, bool]:
    """The upgraded definition in the format of its source, and whether anything was upgraded."""
    kind, source = case.path.parent.name, source_of(case)
    if kind == "binary":
        message = files.read_binary(source, "NetParameter")
        notes = upgrade_net(message)
        return message.SerializeToString(deterministic=True), bool(notes)
    message, origin = (files.read_net if kind == "net" else files.read_solver)(source)
    return format_text(message).encode(), bool(origin.notes)


@pytest.mark.recorded_cases("upgrades")
def test_verb(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if exception(case):
        return
    source = source_of(case)
    target = tmp_path / f"out{source.suffix}"
    verb = "upgrade-solver" if case.path.parent.name == "solver" else "upgrade-net"
    code = main([verb, str(source), str(target)])
    said = capsys.readouterr()
    assert code == min(abs(case.facts["rc"]), 1)
    assert target.exists() == case.facts["output"]
    if not case.facts["output"]:
        assert said.err.startswith("caffecompat: error: ")
        assert str(source) in said.err
        return
    assert target.read_bytes() == recorded_output(case).read_bytes()
    # Each thing that Caffe's tool tells of has a line of ours.
    problems = [line for line in case.facts["messages"] if line.startswith("Unknown parameter")]
    assert said.err.count("dropped") == len(problems)
    for problem in problems:
        assert f"dropped {problem.split()[2]}, which this type never had" in said.err
    latest = any("already in latest" in line for line in case.facts["messages"])
    assert (f"{source} is in today's form already" in said.out) == latest


@pytest.mark.recorded_cases("upgrades")
def test_what_caffe_printed_prints_the_same(case: Case) -> None:
    path = recorded_output(case)
    if path.suffix == ".prototxt" and case.facts["output"]:
        kind = "SolverParameter" if case.path.parent.name == "solver" else "NetParameter"
        assert format_text(files.read_text(path, kind)[0]) == path.read_text()
