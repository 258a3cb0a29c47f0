"""Scripts of Python 2: what is said once, how far they are read, and what converts them."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.doctor.examination import examine

PYTHON_2 = """import caffe
import cPickle
def shown(values):
\tfor i in xrange(3):
\t    print i, values
        print 'begun', i
        for key, value in values.iteritems():
\t    print key
if True:
    print cPickle.loads
print 1
print 2
print 3
print 4
print 5
print 6
print 7
"""
MIXED = "tabs and spaces are mixed: indent with spaces (expand -t 8 script.py)"


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("my project", "old.py")
    path.parent.mkdir()
    path.write_text(PYTHON_2)
    return path


def test_lines_that_say_the_same_are_one_line(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.write_text(PYTHON_2.expandtabs())
    assert main(["doctor", str(script)]) == 1
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  error")]
    place = "  error   my project/old.py"
    assert found == [
        f"{place}:5, 6, 8, 10, 11, 12, 13, 14, 15 and 2 more: "
        "Python 2: print is a function: print(...)",
        f"{place}:2: Python 3 has no module cPickle: import pickle",
        f"{place}:4: Python 3 has no xrange: write range",
        f"{place}:7: Python 3 has no iteritems(): write items()",
    ]


def test_code_behind_mixed_tabs_is_read(script: Path) -> None:
    (report,) = examine(script).files
    said = [finding.sentence for finding in report.findings]
    assert said.count(f"Python 2: {MIXED}") == 1
    assert said.count("Python 2: print is a function: print(...)") == 11
    assert "Python 3 has no iteritems(): write items()" in said


def test_text_that_no_python_reads_is_one_mistake(script: Path) -> None:
    script.write_text("import caffe\nif True:\nx = = 1\n\ty = 2\n")
    (report,) = examine(script).files
    (finding,) = report.findings
    assert finding.place.endswith("old.py:3")
    assert finding.sentence.startswith("this is no Python 3: ")
    assert "unknown" not in finding.sentence
    assert report.commands == []


def test_the_command_that_comes_next_converts_it(script: Path) -> None:
    script.write_text("import settings\n" + PYTHON_2.expandtabs())
    for beside in ("__init__.py", "settings.py"):
        script.with_name(beside).touch()
    (report,) = examine(script).files
    (command,) = report.commands
    if importlib.util.find_spec("lib2to3") is None:
        assert (
            command == "pip install fissix && python -m fissix -w -n -x import 'my project/old.py'"
        )
        return
    assert command == "python -m lib2to3 -w -n -x import 'my project/old.py'"
    _, *arguments = shlex.split(command)
    subprocess.run([sys.executable, "-W", "ignore", *arguments], check=True, capture_output=True)
    assert script.read_text().startswith("import settings\n")  # not "from . import settings"
    (report,) = examine(script).files
    assert report.findings == []
    assert report.commands == ["python -m caffecompat.run 'my project/old.py'"]


def test_a_module_of_a_package_keeps_its_imports(script: Path) -> None:
    """Python 2 looks for a module beside the importing one; the converter writes that out."""
    script.write_text("import caffe\nimport cPickle\nimport settings\n\ndef f():\n    pass\n")
    for beside in ("__init__.py", "settings.py"):
        script.with_name(beside).touch()
    (report,) = (file for file in examine(script).files if file.path.endswith("old.py"))
    (command,) = report.commands
    assert "-x import" not in command
