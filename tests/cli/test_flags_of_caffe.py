"""Flags that Caffe's tool takes with every command."""

from __future__ import annotations

import pytest

from caffecompat.cli.flags_of_caffe import without_idle_flags
from caffecompat.cli.main import load_verb, main, verb_parser


@pytest.mark.parametrize(
    ("verb", "words", "kept", "flags"),
    [
        ("test", "-model n -phase TRAIN --weights w", "-model n --weights w", "--phase"),
        ("device-query", "--level=1 -stage a -gpu 0", "-gpu 0", "--level --stage"),
        ("train", "-iterations 3 --solver=s", "--solver=s", "--iterations"),
        (
            "time",
            "--sigint_effect=stop -snapshot x -model n",
            "-model n",
            "--sigint_effect --snapshot",
        ),
        ("test", "-model n -phase", "-model n", "--phase"),
        ("test", "-foo 3 -- -phase x", "-foo 3 -- -phase x", ""),
        ("summary", "net --weights w", "net --weights w", ""),
    ],
)
def test_those_without_effect_are_left_out(verb: str, words: str, kept: str, flags: str) -> None:
    parser = verb_parser(verb, load_verb(verb))
    assert without_idle_flags(verb, words.split(), parser) == (kept.split(), flags.split())


def test_a_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", "-level", "1"]) == 0
    assert "device-query ignores --level, as Caffe's device-query does" in capsys.readouterr().err


def test_an_empty_phase_of_time_is_the_default() -> None:
    parser = verb_parser("time", load_verb("time"))
    assert parser.parse_args(["--model=n", "--phase="]).phase == "TRAIN"
