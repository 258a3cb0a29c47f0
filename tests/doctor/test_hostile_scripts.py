"""Scripts and notebooks that are made to break their examination: one sentence each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffecompat.doctor import scripts
from caffecompat.doctor.examination import ExaminationOptions, examine
from caffecompat.doctor.findings import FileReport

DEEP = "it is nested too deeply, or too large, to be examined"
SCRIPTS = {
    "signs": b"x = " + b"-" * 200_000 + b"1\n",
    "words": b"x = " + b"not " * 5_000 + b"1\n",
    "attributes": b"x = caffe" + b".a" * 300_000 + b"\n",
    "attributes that parse": b"x = caffe" + b".a" * 900 + b"\n",
    "sum": b"x = " + b"1+" * 100_000 + b"1\n",
}


@pytest.fixture(autouse=True)
def usual_recursion_limit() -> Iterator[None]:
    """Python's default: torch.compile raises the limit for the rest of the process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


def report(folder: Path, max_bytes: int | None = None) -> FileReport:
    (found,) = examine(folder, ExaminationOptions(max_bytes=max_bytes)).files
    return found


def sentences(found: FileReport) -> list[str]:
    return [finding.sentence for finding in found.findings]


@pytest.mark.parametrize("name", SCRIPTS)
def test_deep_nesting_is_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"import caffe\n" + SCRIPTS[name])
    found = sentences(report(tmp_path))
    assert len(found) == 1
    assert found[0] == DEEP or found[0].startswith("caffe.a")


def test_a_deep_notebook(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text('{"caffe": ' + "[" * 100_000)
    assert sentences(report(tmp_path)) == [DEEP]


def test_code_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """A syntax tree takes hundreds of bytes for each byte of a script."""
    path = tmp_path / "a.py"
    path.write_bytes(b"import caffe\n" + b"x = 1\n" * 200_000)
    (found,) = sentences(report(tmp_path))
    assert "1,200,013 bytes, more than the limit of 1,048,576" in found
    assert sentences(report(tmp_path, 2_000_000)) == []


def test_the_code_of_a_notebook_is_counted_without_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    code = {"cell_type": "code", "source": ["import caffe\n"], "outputs": ["x" * 2_000_000]}
    path.write_text(json.dumps({"cells": [code]}))
    assert sentences(report(tmp_path)) == []
    code["source"] = ["import caffe\n", "x = 1\n" * 200_000]
    path.write_text(json.dumps({"cells": [code]}))
    (found,) = sentences(report(tmp_path))
    assert "the code of its cells: 1,200,012 bytes, more than the limit" in found


def test_a_long_text_with_mistakes_is_not_parsed_again_after_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 2's print a hundred times behind a long text."""
    parsed: list[int] = []
    parse = scripts.ast.parse

    def counted(text: str) -> object:
        parsed.append(len(text))
        return parse(text)

    monkeypatch.setattr(scripts.ast, "parse", counted)
    (tmp_path / "a.py").write_bytes(b"import caffe\n" + b"x = 1\n" * 100_000 + b"print 1\n" * 300)
    assert len(sentences(report(tmp_path))) == len(parsed)
    assert sum(parsed) < 6 << 20


def test_a_shell_script_of_many_commands(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_bytes(b"caffe train\n" * 1_000_000)
    found = report(tmp_path)
    assert len(found.findings) == 100
    assert found.findings[-1].place == f"{tmp_path}/a.sh:100"


def test_nothing_is_printed_about_escapes_of_a_script(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "a.py").write_text('import caffe\nx = "\\d"\n')
    assert sentences(report(tmp_path)) == []
    assert not recwarn.list
