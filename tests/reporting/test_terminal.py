"""How wide a terminal is and whether it gets colours."""

from __future__ import annotations

import io
import os
import pty
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from caffecompat.reporting import terminal
from caffecompat.reporting.terminal import short_name

fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")


@contextmanager
def pseudo_terminal(width: int) -> Iterator[TextIO]:
    """The program's end of a terminal that is ``width`` characters wide."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with os.fdopen(slave, "w") as stream:
        yield stream
    os.close(master)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


class TestWidth:
    def test_terminal_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.__stdout__", io.StringIO())
        for width, expected in ((61, 61), (0, 80)):
            with pseudo_terminal(width) as stream:
                monkeypatch.setattr("sys.__stderr__", stream)
                monkeypatch.setattr("sys.__stdin__", None)
                assert terminal.columns() == expected

    def test_the_environment_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pseudo_terminal(61) as stream:
            monkeypatch.setattr("sys.__stdout__", stream)
            monkeypatch.setenv("COLUMNS", "47")
            assert terminal.columns() == 47
            for nonsense in ("", "0", "wide", "-3"):
                monkeypatch.setenv("COLUMNS", nonsense)
                assert terminal.columns() == 61


class TestColour:
    def test_a_terminal_has_it(self) -> None:
        with pseudo_terminal(80) as stream:
            assert terminal.colour_wanted(stream)
            assert terminal.as_error("no", stream) == "\x1b[31mno\x1b[0m"
            assert terminal.as_name("", stream) == ""

    @pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
    def test_unless_it_is_not_wanted(
        self, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(name, value)
        with pseudo_terminal(80) as stream:
            assert terminal.as_warning("hm", stream) == "hm"

    def test_an_empty_no_color_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_COLOR", "")
        with pseudo_terminal(80) as stream:
            assert terminal.colour_wanted(stream)

    def test_pipes_and_closed_streams_have_none(self) -> None:
        closed = io.StringIO()
        closed.close()
        for stream in (io.StringIO(), closed):
            assert not terminal.colour_wanted(stream)


def test_control_characters_are_escaped() -> None:
    assert terminal.printable("conv1_1/3x3 été 层 💥") == "conv1_1/3x3 été 层 💥"
    assert terminal.printable("a\x1b[31m\n\u202e\u2028") == r"a\x1b[31m\n\u202e\u2028"
    assert terminal.printable("two\nlines\t\r", keep="\n\t") == "two\nlines\t\\r"


def test_a_long_name_loses_its_middle() -> None:
    assert short_name("a" * 200) == "a" * 200
    shown = short_name("a" * 3000 + "b" * 3000)
    assert len(shown) == 200
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")
    assert ".." in shown
