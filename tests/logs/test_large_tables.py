"""Logs whose tables would be the square of the log, and names that are formulas."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.logs.parse import read_log, table
from tests.sentences import advised_limit

START = "I0101 00:00:00.000000 1 solver.cpp:1] Solving net\n"


def line(iteration: int, name: str) -> str:
    where = "I0101 00:00:01.000000 1 solver.cpp:1]"
    return f"{where} Iteration {iteration}, Train net output #0: {name} = 1\n"


@pytest.mark.parametrize("command", [["parse-log", "{}", "."], ["plot-log", "{}", "-o", "x.png"]])
def test_a_name_in_each_line(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The table would have 900 million cells; the log has 30,000 lines."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.log"
    path.write_text(START + "".join(line(i, f"n{i}") for i in range(30_000)))
    assert main([word.format(path) for word in command]) == 1
    assert "the table of its training outputs would take 3,600,000,000 bytes" in (
        capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == [path]


def test_the_limit_is_lifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The advice of the message, to the letter."""
    path = tmp_path / "x.log"
    path.write_text(START + "".join(line(i, f"n{i}") for i in range(5_000)))
    command = ["parse-log", str(path), str(tmp_path)]
    assert main(command) == 1
    assert main([*command, *advised_limit(capsys.readouterr().err)]) == 0
    assert (tmp_path / "x.log.train").read_bytes().count(b"\r\n") == 5_001


def test_a_log_where_each_row_has_all_outputs_is_far_from_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    text = "".join(line(i, f"n{j}") for i in range(50) for j in range(50))
    path.write_text(START + text)
    assert len(text) / 10 > 4 * 50 * 50
    assert len(read_log(path).train) == 50


def test_a_picture_of_very_many_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The advice of the message, to the letter."""
    path = tmp_path / "x.log"
    path.write_text(START + "".join(line(0, f"n{i}") for i in range(401)))
    assert main(["plot-log", str(path), "-o", str(tmp_path / "x.png")]) == 1
    error = capsys.readouterr().err
    assert "401 outputs, more than the 400 that a picture can show" in error
    advice = error.partition("caffecompat parse-log ")[2].split()
    assert advice == [str(path), "."]
    assert main(["parse-log", str(path), str(tmp_path)]) == 0
    path.write_text(START + "".join(line(0, f"n{i}") for i in range(400)))
    assert main(["plot-log", str(path), "-o", str(tmp_path / "x.svg")]) == 0


def test_a_picture_of_long_names(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    names = ["n" * 1_000_000, "$x^$", "a\x1b", "loss" * 1000]
    path.write_text(START + "".join(line(0, name) for name in names))
    assert main(["plot-log", str(path), "-o", str(tmp_path / "x.svg")]) == 0
    assert (tmp_path / "x.svg").stat().st_size < 200_000


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
def test_no_name_is_a_formula_of_a_spreadsheet(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text(START + line(0, name))
    assert table(read_log(path).train).split("\n")[0].endswith(f",'{name}")
    path.write_text(START + line(0, f"a{name}"))
    assert table(read_log(path).train).split("\n")[0].endswith(f",a{name}")
