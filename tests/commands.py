"""Verbs and calls in tests of what a refusal says: they are run, and their message is returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import CaffeError

Run = Callable[[str], str]


def outcome(words: Sequence[str], captured: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The exit code of a verb, what it printed and what it said on standard error."""
    captured.readouterr()
    code = main(list(words))
    out, error = captured.readouterr()
    assert "Traceback" not in error, error
    return code, out, error


def verb_runner(captured: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a verb with its arguments; it returns the error, "" on success."""

    def call(command: str) -> str:
        code, _, error = outcome(command.split(), captured)
        assert (code == 0) == ("error: " not in error), error
        return error if code else ""

    return call


def refused(call: Callable[[], object], *sentences: str, kind: type[Exception] = CaffeError) -> str:
    """What ``call`` is refused with; it holds all these sentences."""
    with pytest.raises(kind) as caught:
        call()
    said = str(caught.value)
    assert all(sentence in said for sentence in sentences), said
    return said
