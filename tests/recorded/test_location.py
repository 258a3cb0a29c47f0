"""Finding the recorded cases, saying how many there are, and that the copies are copies."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.places import COPIES, REPOSITORY
from tests.recorded.cases import COUNTS, KINDS, count, parameters, read_json, report
from tests.recorded.exceptions import EXCEPTIONS
from tests.recorded.location import RecordedCases, find_recorded
from tests.recorded.tolerances import INEXACT_IMAGES

# Lists of cases, of which the copies have a part.
LISTS = {"README.md", "case.json", "cases.json", "facts.json", "means.json"}
# Made of several files of the full set.
MADE = {"cli/events.json", "cli/debug_info.log"}

LACKING = RecordedCases(COPIES, None, complete=False)


def folder_with_a_case(top: Path) -> Path:
    case = top / "golden" / "layers" / "ReLU" / "basic.npz"
    case.parent.mkdir(parents=True)
    case.touch()
    return top


def test_the_option_comes_before_the_variable_before_the_folder_beside(tmp_path: Path) -> None:
    folders = {name: folder_with_a_case(tmp_path / name) for name in ("option", "variable")}
    beside = folder_with_a_case(tmp_path / "beside")
    option, variable = str(folders["option"]), str(folders["variable"])
    assert find_recorded(option, variable, beside).folder == folders["option"] / "golden"
    assert find_recorded(None, variable, beside).folder == folders["variable"] / "golden"
    assert find_recorded(None, "", beside) == RecordedCases(beside / "golden", None, complete=True)
    assert find_recorded(None, None, tmp_path / "none") == LACKING


@pytest.mark.parametrize(
    ("option", "variable", "name"), [("x", None, "--recorded"), (None, "x", "CAFFECOMPAT_RECORDED")]
)
def test_a_named_folder_without_cases_is_an_error(
    option: str | None, variable: str | None, name: str, tmp_path: Path
) -> None:
    (tmp_path / "golden").mkdir()
    with pytest.raises(pytest.UsageError, match=f"^{name} .*: there are no recorded cases; name"):
        find_recorded(option and str(tmp_path), variable and str(tmp_path))


def test_the_header_says_how_many_there_are(recorded: RecordedCases) -> None:
    here, known = sum(count(recorded).values()), sum(read_json(COUNTS).values())
    assert report(recorded).startswith(f"recorded cases: {here} of {known}, from ")
    line = report(LACKING)
    assert line.endswith(f" of {known}, from the copies in the tests; --recorded PATH runs all")


def test_the_full_set_is_full(recorded: RecordedCases) -> None:
    found, known = count(recorded), read_json(COUNTS)
    assert set(found) == set(known)
    if recorded.complete and recorded.published is not None:
        assert found == known, "write the new numbers into tests/recorded/counts.json"
    assert all(found[kind] <= known[kind] for kind in found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_without_cases_is_skipped_only_with_the_copies(kind: str, tmp_path: Path) -> None:
    empty = dataclasses.replace(LACKING, folder=tmp_path)
    for name, text in {
        "files/solverstate/case.json": '{"states": []}',
        "upgrade/cases.json": '{"cases": {}}',
        "netstate/rules.json": '{"cases": []}',
        "netstate/shapes.json": '{"nets": []}',
        "netstate/solvers.json": '{"cases": []}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (skipped,) = parameters(empty, kind)
    reason = skipped.marks[0].kwargs["reason"]
    assert reason.startswith(f"this repository has no copies of recorded {kind}")
    assert parameters(dataclasses.replace(empty, complete=True), kind) == []


def test_every_exception_has_a_case_among_the_copies() -> None:
    """So that exceptions are always tried."""
    names = {
        case.name for kind in ("layers", "refusals", "data layers") for case in KINDS[kind](LACKING)
    }
    names |= {
        f"upgrade/{case.path.name.removeprefix('fail_')}" for case in KINDS["upgrades"](LACKING)
    }
    names |= {f"files/{case.facts['file']}" for case in KINDS["weight files"](LACKING)}
    assert set(EXCEPTIONS) <= names


def test_every_inexact_image_case_is_recorded(golden: Path) -> None:
    assert {path.name for path in (golden / "data" / "layers").iterdir()} >= INEXACT_IMAGES


def test_the_copies_are_copies(golden: Path) -> None:
    differing = []
    for copy in sorted(path for path in COPIES.rglob("*") if path.is_file()):
        name = copy.relative_to(COPIES)
        if name.name in LISTS or name.as_posix() in MADE:
            continue
        original = golden / name
        if not original.is_file() or original.read_bytes() != copy.read_bytes():
            differing.append(str(name))
    assert not differing


def test_the_full_set_is_looked_for_in_one_place() -> None:
    looking = {
        path.name
        for path in (REPOSITORY / "tests").rglob("*.py")
        if re.search(r'/ "(shared|golden|zoo)"', path.read_text())
    }
    assert looking == {"location.py", Path(__file__).name}


def test_folders_of_tests_are_packages() -> None:
    folders = {path.parent for path in (REPOSITORY / "tests").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
