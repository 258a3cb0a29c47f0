"""The tables of verbs on a narrow terminal and in a pipe, and numbers in words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.reporting.table import Column, print_table, shorten
from caffecompat.reporting.units import counted, rounded

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

ROOT = Path(__file__).resolve().parents[2]
COLOUR = re.compile(r"\x1b\[\d*m")
INCEPTION = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 3 '
    "dim: 224 dim: 224 } } }\n"
) + "\n".join(
    f'layer {{ name: "inception_3a/{size}x{size}_reduce_of_the_first" type: "Convolution" '
    f'bottom: "data" top: "inception_3a/{size}" convolution_param {{ num_output: 1024 '
    f"kernel_size: {size} pad: {size // 2} }} }}"
    for size in (1, 3, 5)
)


def test_the_graph_fits_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(INCEPTION)
    narrow = COLOUR.sub("", program_on_terminal(80, "graph", str(path))).splitlines()
    table = [line for line in narrow if not line.startswith("#")]
    assert len(table) == 5
    assert max(map(len, table)) <= 80
    # The line in the prototxt stays readable.
    assert re.search(r" 2( |$)", table[2])
    assert main(["graph", str(path)]) == 0
    whole = capsys.readouterr().out
    assert "2  layer 'inception_3a/1x1_reduce_of_the_first' (Convolution)" in whole
    assert f"# net in phase TEST, lines of {path}" in whole


class Terminal:
    """A terminal of a width in characters, and what is written to it."""

    def __init__(self, width: int) -> None:
        self._master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, width)) if sys.version_info >= (3, 11) else os.system(
            f"stty cols {width} < {os.ttyname(self.slave)}"
        )
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # the other end is closed
                return
            if not part:
                return
            self._parts.append(part)

    def text(self) -> str:
        """All that was written, when the last program that has the terminal open has ended."""
        os.close(self.slave)
        self._reader.join(timeout=60)
        os.close(self._master)
        return b"".join(self._parts).decode().replace("\r\n", "\n")


ENVIRONMENT = {"COLUMNS": "", "TERM": "xterm", "NO_COLOR": ""}


def program_on_terminal(width: int, *arguments: str) -> str:
    """What a verb, started as a program, writes to a terminal of that width."""
    terminal = Terminal(width)
    subprocess.run(
        [sys.executable, "-m", "caffecompat", *arguments],
        cwd=ROOT,
        stdout=terminal.slave,
        stderr=terminal.slave,
        stdin=terminal.slave,
        env={**os.environ, **ENVIRONMENT},
        timeout=600,
    )
    lines = terminal.text().splitlines(keepends=True)
    # On a slow machine.
    return "".join(line for line in lines if not line.startswith("caffecompat: loading torch"))


def on_terminal(width: int, *arguments: str, **environment: str) -> str:
    """What a verb, called in this process, writes to a terminal of that width."""
    terminal = Terminal(width)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, **environment}.items():
            patch.setenv(name, value)
        with open(terminal.slave, "w", encoding="utf-8", closefd=False) as stream:
            for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
                patch.setattr(sys, name, stream)
            main(arguments)
    return terminal.text()


@pytest.fixture
def inception(tmp_path: Path) -> str:
    path = tmp_path / "inception.prototxt"
    path.write_text(INCEPTION)
    return str(path)


@pytest.mark.parametrize("verb", ["summary", "inspect"])
def test_a_table_fits_into_the_terminal(verb: str, inception: str) -> None:
    text = on_terminal(80, verb, inception)
    table = [line for line in COLOUR.sub("", text).splitlines() if "Convolution" in line]
    assert len(table) == 3
    assert all(len(line) <= 80 for line in table)
    assert len({line.split()[0] for line in table}) == 3  # shortened names still differ
    assert "too narrow for:" in text
    assert "\x1b[1m" in text  # names are in bold type


def test_a_wide_one_shows_it_all(inception: str) -> None:
    text = on_terminal(200, "summary", inception, NO_COLOR="1")
    assert "\x1b" not in text
    assert "inception_3a/5x5_reduce_of_the_first" in text
    assert "too narrow" not in text


def test_so_does_a_pipe(inception: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", inception]) == 0
    out = capsys.readouterr().out
    assert "inception_3a/5x5_reduce_of_the_first" in out
    assert max(map(len, out.splitlines())) > 100
    assert "\x1b" not in out


def test_errors_are_red(tmp_path: Path) -> None:
    text = on_terminal(80, "upgrade-net", str(tmp_path / "none.prototxt"), "out")
    assert text.startswith("\x1b[31mcaffecompat: error:\x1b[0m ")
    assert "\x1b" not in on_terminal(80, "upgrade-net", str(tmp_path / "no"), "out", TERM="dumb")


class TestFitting:
    COLUMNS = (
        Column("name", shortens=True, is_name=True),
        Column("value", right=True),
        Column("less", rank=1),
        Column("least", rank=2),
    )
    ROWS = (("a" * 12 + "b" * 12, "1", "xx", "yyyyy"), ("c", "23", "x", "y"))

    def table(self, width: int, monkeypatch: pytest.MonkeyPatch, capsys: object) -> list[str]:
        monkeypatch.setattr("caffecompat.reporting.terminal.is_terminal", lambda _: True)
        monkeypatch.setattr("caffecompat.reporting.terminal.colour_wanted", lambda _: False)
        monkeypatch.setattr("caffecompat.reporting.terminal.columns", lambda: width)
        print_table(self.COLUMNS, self.ROWS)
        assert isinstance(capsys, pytest.CaptureFixture)
        return str(capsys.readouterr().out).splitlines()

    @pytest.mark.parametrize(
        ("width", "lines"),
        [
            (
                44,
                [
                    "name" + " " * 22 + "value  less  least",
                    "a" * 12 + "b" * 12 + "      1  xx    yyyyy",
                ],
            ),
            (
                40,
                [
                    "name" + " " * 18 + "value  less  least",
                    "aaaaaaaaa..bbbbbbbbb      1  xx    yyyyy",
                ],
            ),
            (38, ["name" + " " * 22 + "value  less", "a" * 12 + "b" * 12 + "      1  xx"]),
            (31, ["name" + " " * 22 + "value", "a" * 12 + "b" * 12 + "      1"]),
            (15, ["name      value", "aaa..bbb      1"]),
        ],
    )
    def test_by_width(
        self,
        width: int,
        lines: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        found = self.table(width, monkeypatch, capsys)
        assert found[:2] == lines
        dropped = [title for title in ("less", "least") if title not in found[0].split()]
        assert [line for line in found if "too narrow" in line] == (
            [f"# too narrow for: {', '.join(dropped)}; a file or a pipe gets the whole table"]
            if dropped
            else []
        )

    @pytest.mark.parametrize("width", range(13))
    def test_shortening(self, width: int) -> None:
        text = shorten("inception_3a", width)
        assert len(text) == min(width, 12)
        if width > 3:
            assert text[0] == "i"
            assert text[-1] == "a"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0"),
        (9_999, "9,999"),
        (10_000, "10 thousand"),
        (431_080, "431 thousand"),
        (999_999, "1 million"),
        (138_357_544, "138 million"),
        (15_470_264_320, "15.5 billion"),
        (2**60, "1,152,922 trillion"),
    ],
)
def test_numbers_in_words(count: int, words: str) -> None:
    assert rounded(count) == words


def test_one_and_many() -> None:
    assert [counted(n, "difference") for n in (0, 1, 2_000)] == [
        "0 differences",
        "1 difference",
        "2,000 differences",
    ]


def test_the_total_of_a_small_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "data" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" '
        "inner_product_param { num_output: 4 } }"
    )
    assert main(["summary", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "total: 16 parameters",
        "       24 multiply-adds for a batch of 2 (12 for one)",
    ]
