"""README, docs and scripts name things that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from caffecompat.cli.flags.spelling import normalise
from caffecompat.cli.main import load_verb, verb_names, verb_parser

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = REPOSITORY / "tools"
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), TOOLS / "README.md"]
)
SCRIPTS = [*sorted(TOOLS.glob("*.sh")), REPOSITORY / ".ci" / "run"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_is_accepted(path: Path) -> None:
    """Their arguments, not their files."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"\s+#.*", "", line).removeprefix("$ ") for line in lines]
    for command in [part for line in lines for part in re.split(r" && |; ", line)]:
        if not command.startswith("caffecompat ") or command.startswith("caffecompat -"):
            continue
        words = shlex.split(command.partition(" > ")[0])
        assert words[1] in verb_names(), command
        parser = verb_parser(words[1], load_verb(words[1]))
        parser.parse_args(normalise(words[2:], parser))


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


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_run(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_script_is_in_the_list_of_scripts() -> None:
    listed = set(re.findall(r"`([\w/]+\.(?:py|sh))`", (TOOLS / "README.md").read_text("utf-8")))
    there = {path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob("*.py")}
    there |= {path.name for path in TOOLS.glob("*.sh")}
    # The stages of gpu_check.py and the steps of quickstart.sh are no scripts of their own.
    assert {name for name in there if not name.startswith(("gpu/", "quickstart/"))} == listed


def test_python_scripts_can_be_run() -> None:
    """A first line that names an interpreter is of use only in a file that may be run."""
    first = {path: path.read_text("utf-8").startswith("#!") for path in TOOLS.rglob("*.py")}
    assert any(first.values())
    assert [path for path, says in first.items() if says != os.access(path, os.X_OK)] == []
