"""--flagfile of gflags: the flags of a file stand where the file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.cli.flags.flag_files import with_flag_files
from caffecompat.cli.main import main
from caffecompat.errors import FileProblem, FormatError

NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 5 } }"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-solver=s.prototxt\n--gpu=0\n", ["-solver=s.prototxt", "--gpu=0"]),
        ("  -solver s.prototxt  \r\n-gpu 0\r\n", ["-solver", "s.prototxt", "-gpu", "0"]),
        ("# a comment\n\n-solver=my files/s = 1.prototxt", ["-solver=my files/s = 1.prototxt"]),
        ("-solver my files/s=1.prototxt", ["-solver", "my files/s=1.prototxt"]),
        ("\ufeff-logtostderr\n-v=1", ["-logtostderr", "-v=1"]),
        ("", []),
    ],
)
@pytest.mark.parametrize("given", [["--flagfile=f"], ["-flagfile", "f"]])
def test_flags_of_a_file(given: list[str], text: str, words: list[str]) -> None:
    Path("f").write_text(text, newline="")
    found = with_flag_files(["train", *given, "--iterations", "3"])
    assert found == ["train", *words, "--iterations", "3"]


def test_files_that_name_files() -> None:
    Path("a").write_text("-x=1\n-flagfile=b\n-y=2")
    Path("b").write_text("-z=3")
    assert with_flag_files(["-flagfile", "a,b"]) == ["-x=1", "-z=3", "-y=2", "-z=3"]
    Path("b,a").write_text("-w=4")
    assert with_flag_files(["-flagfile", "b,a", "--", "-flagfile=a"]) == [
        "-w=4",
        "--",
        "-flagfile=a",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-x=1\nsolver=s.prototxt", "^f:2: 'solver=s.prototxt' is no flag; write one in each line"),
        ("--flagfile=f", "^f: names itself by --flagfile; take that line out$"),
        ("--flagfile", "^--flagfile: expected the name of a file; write --flagfile=FILE$"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    Path("f").write_text(text)
    with pytest.raises(FormatError, match=words):
        with_flag_files(["--flagfile=f"])


def test_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileProblem, match=r"^none: there is no such file"):
        with_flag_files(["--flagfile", "none"])
    assert main(["time", "--flagfile=none"]) == 1
    assert "caffecompat: error: none: there is no such file" in capsys.readouterr().err
    Path("net.prototxt").write_text(NET)
    Path("flags.txt").write_text("-model=net.prototxt\n-iterations=2\n# -gpu=0\n")
    assert main(["--flagfile=flags.txt", "time", "--cpu"]) == 0
    assert "Testing for 2 iterations." in capsys.readouterr().err
