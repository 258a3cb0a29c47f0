"""README, packaging and scripts say what is there."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import caffecompat
from caffecompat.cli.main import verb_names

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SCRIPTS = [*sorted((REPOSITORY / "tools").glob("*.sh")), REPOSITORY / ".ci" / "run"]


def packaging(monkeypatch: pytest.MonkeyPatch, opencv: str = "full") -> dict[str, Any]:
    """What setup.py hands to setuptools, which need not be installed for that."""
    found: dict[str, Any] = {}
    stand_in = SimpleNamespace(setup=found.update, find_packages=lambda include: list(include))
    monkeypatch.setitem(sys.modules, "setuptools", stand_in)
    monkeypatch.setenv("CAFFECOMPAT_OPENCV", opencv)
    runpy.run_path(str(REPOSITORY / "setup.py"))
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[>=<;]", requirement)[0] for requirement in requirements}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_use_verbs_that_exist(path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    used = set(re.findall(r"^caffecompat ([a-z-]+)", "\n".join(blocks), re.MULTILINE))
    assert used <= set(verb_names())


def test_verbs_of_the_readme_exist() -> None:
    text = (REPOSITORY / "README.md").read_text("utf-8")
    table = text[text.index("| verb | does |") :].split("\n\n")[0]
    listed = [
        name
        for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
        for name in re.findall(r"`([a-z-]+)`", cell)
    ]
    assert len(listed) >= 9
    assert set(listed) <= set(verb_names())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_prototxts_that_documents_name_exist(path: Path) -> None:
    for name in re.findall(r"prototxt/([\w-]+\.prototxt)", path.read_text("utf-8")):
        assert (REPOSITORY / "prototxt" / name).exists(), name


def test_every_requirement_has_a_tested_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = packaging(monkeypatch)
    wanted = names(found["install_requires"]).union(*map(names, found["extras_require"].values()))
    pins = (REPOSITORY / "constraints.txt").read_text("utf-8")
    assert wanted <= set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))


def test_extras_that_messages_name_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = packaging(monkeypatch)["extras_require"]
    named = set()
    for path in (REPOSITORY / "caffecompat").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "MissingExtra":
                named.add(ast.literal_eval(call.args[1]))
    assert named
    assert named <= set(extras)
    assert {need for name in named for need in extras[name]} <= set(extras["all"])


@pytest.mark.parametrize(
    ("choice", "distribution"),
    [("full", "opencv-python"), ("headless", "opencv-python-headless")],
)
def test_opencv_choice(monkeypatch: pytest.MonkeyPatch, choice: str, distribution: str) -> None:
    found = names(packaging(monkeypatch, choice)["install_requires"])
    assert {name for name in found if name.startswith("opencv")} == {distribution}


def test_wrong_opencv_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"'both': set it to one of \['full', 'headless'\]"):
        packaging(monkeypatch, "both")


def test_packaged_files_exist_and_versions_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    found = packaging(monkeypatch)
    for name in found["package_data"]["caffecompat"]:
        assert (REPOSITORY / "caffecompat" / name).is_file()
    assert found["version"] == caffecompat.__version__


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_run(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)
