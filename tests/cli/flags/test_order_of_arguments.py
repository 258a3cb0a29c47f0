"""Files stand before, between and after flags, for every verb and every action of one."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffecompat.cli.flags.parsing import VerbParser
from caffecompat.cli.flags.spelling import normalise
from caffecompat.cli.main import load_verb, main, verb_names, verb_parser


def _parsers() -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """The words that choose a verb or an action, and its parser."""
    waiting = [([name], verb_parser(name, load_verb(name))) for name in verb_names()]
    while waiting:
        words, parser = waiting.pop(0)
        parts = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        for name, part in parts[0].choices.items() if parts else ():
            waiting.append(([*words, name], part))
        if not parts:
            yield words, parser


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]


# Those for which argparse alone depends on the order: with a number of files that may differ.
OPEN = {
    " ".join(words): (words, parser)
    for words, parser in _parsers()
    if any(action.nargs is not None for action in _positionals(parser))
}


def _files(parser: argparse.ArgumentParser) -> list[str]:
    """As many words as positional arguments take, two for each that takes several."""
    words: list[str] = []
    for action in _positionals(parser):
        for _ in range(2 if action.nargs in ("+", "*") else 1):
            words.append("3" if action.type is int else f"file{len(words)}")
    return words


def _flags(parser: argparse.ArgumentParser) -> tuple[list[list[str]], list[str]]:
    """The required flags, then switches and flags with a value; and one that takes a list."""
    required: list[list[str]] = []
    others: list[list[str]] = []
    lists: list[str] = []
    for action in parser._actions:
        if not action.option_strings or action.dest == "help":
            continue
        option = action.option_strings[-1]
        if action.nargs in ("+", "*"):
            lists = lists or [option, "listed1", "listed2"]
        elif action.nargs == 0:
            others.append([option])
        elif action.required or (action.type in (None, int) and action.choices is None):
            word = "0.5" if action.type is float else "7"
            # Beside --cpu only a --gpu that agrees is taken.
            word = "none" if action.dest == "gpu" else word
            (required if action.required else others).append([option, word])
    return required + others, lists


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = verb_parser(words[0], load_verb(words[0]))
    return parser.parse_args(normalise(words[1:], parser))


def test_the_verbs_with_optional_files_are_found() -> None:
    assert {"convert", "deploy", "draw", "svm", "verify", "dataset show"} <= set(OPEN)
    assert {"convert-imageset", "dataset import cifar100", "extract-features"} <= set(OPEN)


@pytest.mark.parametrize("name", OPEN)
def test_files_stand_anywhere_among_flags(name: str) -> None:
    start, parser = OPEN[name]
    files = _files(parser)
    flags, _ = _flags(parser)
    expected = _parsed([*start, *files, *itertools.chain(*flags)])
    taken: list[str] = []
    for action in _positionals(parser):
        value = getattr(expected, action.dest)
        taken += map(str, value) if isinstance(value, list) else [str(value)]
    assert taken == files
    # One file behind each flag, then all behind the last one.
    mixed = [
        part
        for flag, file in itertools.zip_longest(flags, files, fillvalue=())
        for part in ([*flag, file] if isinstance(file, str) else flag)
    ]
    behind = [*itertools.chain(*flags), *files]
    for words in (mixed, behind, [*itertools.chain(*flags), "--", *files]):
        assert vars(_parsed([*start, *words])) == vars(expected), words
    odd = [*files[:-1], "-odd" if files[-1] != "3" else "3"]
    words = [*start, *files[:-1], *itertools.chain(*flags), "--", odd[-1]]
    assert vars(_parsed(words)) == vars(_parsed([*start, *itertools.chain(*flags), "--", *odd]))


@pytest.mark.parametrize("name", [name for name in OPEN if _flags(OPEN[name][1])[1]])
def test_a_flag_with_several_values_keeps_them(name: str) -> None:
    """Words behind it are its own up to the next flag, as argparse has it."""
    start, parser = OPEN[name]
    files = _files(parser)
    flags, several = _flags(parser)
    expected = _parsed([*start, *files, *itertools.chain(*flags), *several])
    words = [*several, *itertools.chain(*flags), *files]
    assert vars(_parsed([*start, *words])) == vars(expected)
    words = [*itertools.chain(*flags), *several, "--", *files]
    assert vars(_parsed([*start, *words])) == vars(expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["deploy", "--force"], "the following arguments are required: source"),
        (["deploy", "a", "--force", "b", "c"], "unrecognized arguments: c"),
        (["deploy", "a", "--bogus", "b", "--force"], "unrecognized arguments: --bogus"),
        (["deploy", "a", "--bogus", "--force", "b"], "unrecognized arguments: --bogus b"),
        (["deploy", "a", "--batch", "none", "b"], "'none': expected a whole number"),
        (["deploy", "a", "b", "--batch"], "argument --batch: expected one argument"),
        (["classify", "--top", "3"], "required: IMAGE, --weights"),
        (["train", "file", "--solver", "s"], "unrecognized arguments: file"),
        (["dataset", "show", "--bogus", "a"], "unrecognized arguments: --bogus"),
        (["dataset", "shw", "a"], "invalid choice: 'shw'"),
    ],
)
def test_bad_usage_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_number_and_a_dash_are_files() -> None:
    parser = VerbParser()
    parser.add_argument("first")
    parser.add_argument("second", nargs="?")
    parser.add_argument("--loud", action="store_true")
    parser.add_argument("-o", "--output")
    found = parser.parse_args(["-", "--loud", "-o", "-3", "-1.5"])
    assert vars(found) == {"first": "-", "second": "-1.5", "loud": True, "output": "-3"}


def test_words_come_from_the_command_line_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program", "a", "--loud", "b"])
    parser = VerbParser()
    parser.add_argument("first")
    parser.add_argument("second", nargs="?")
    parser.add_argument("--loud", action="store_true")
    assert vars(parser.parse_args()) == {"first": "a", "second": "b", "loud": True}


def test_a_target_behind_a_flag_is_written(tmp_path: Path) -> None:
    source = tmp_path / "train_val.prototxt"
    source.write_text(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "fc" type: "InnerProduct" bottom: "d" top: "fc"\n'
        "        inner_product_param { num_output: 5 } }\n"
    )
    target = tmp_path / "other.prototxt"
    assert main(["deploy", str(source), "--batch", "3", str(target)]) == 0
    assert "dim: 3 dim: 3" in " ".join(target.read_text().split())
