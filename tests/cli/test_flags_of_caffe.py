"""Flags that Caffe's tool takes with every command."""

from __future__ import annotations

import pytest

from caffecompat.cli.main import load_verb, main, verb_parser
from caffecompat.cli.spelling import normalise


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
            "--sigint-effect --snapshot",
        ),
        ("test", "-model n -weights w -phase", "-model n -weights w", "--phase"),
    ],
)
def test_those_without_effect_are_left_out(
    verb: str, words: str, kept: str, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = verb_parser(verb, load_verb(verb))
    given = parser.parse_args(normalise(words.split(), parser))
    said = [f"caffecompat: {verb} ignores {flag}, as Caffe's {verb} does" for flag in flags.split()]
    assert capsys.readouterr().err.splitlines() == said
    assert given == parser.parse_args(normalise(kept.split(), parser))
    assert capsys.readouterr().err == ""
    assert not any(f" {flag} " in parser.format_help() for flag in flags.split())


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("test", "--model n --weights w -foo 3"),
        ("test", "--model n --weights w -- -phase x"),
        ("summary", "net --iterations 3"),
    ],
)
def test_other_words_are_refused(verb: str, words: str) -> None:
    parser = verb_parser(verb, load_verb(verb))
    with pytest.raises(SystemExit):
        parser.parse_args(normalise(words.split(), parser))


def test_a_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", "-level", "1"]) == 0
    assert "device-query ignores --level, as Caffe's device-query does" in capsys.readouterr().err


def test_an_empty_phase_of_time_is_the_default() -> None:
    parser = verb_parser("time", load_verb("time"))
    assert parser.parse_args(["--model=n", "--phase="]).phase == "TRAIN"
