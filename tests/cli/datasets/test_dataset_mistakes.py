"""Wrong input of the verb dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.cli.datasets.records import Run


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("info", "nosuch"), "nosuch: there is no database"),
        (("info", "."), "this is not an LMDB"),
        (("merge", "mixed", "nosuch", "out"), "nosuch: there is no database"),
        (("split", "mixed", "a", "b", "--fraction", "1"), "expected a number between 0 and 1"),
        (("sample", "mixed", "out", "--count", "6"), "6 records were requested, it has 5"),
        (("show", "out.png"), "give a database, or a net"),
        (("show", "mixed", "out.png", "--count", "0"), "--count is 0"),
        (("show",), "give a database, or a net"),
        (("show", "mixed", "a.png", "b.png"), "give a database, or a net"),
        (("show", "mixed", "out.svg"), "out.svg: the name must end in .png or .jpg"),
        (("show", "mixed", "out.png", "--first", "5"), "there are no images to show"),
        (("show", "--net", "nosuch", "out.png"), "nosuch"),
        (("show", "--net", "empty", "out.png", "--layer", "x"), "no data layer 'x' in phase TRAIN"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    mixed: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(mixed.parent)
    Path("empty").write_text("name: 'empty'")
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert sentence in err
    assert sorted(os.listdir()) == ["empty", "mixed"]


@pytest.mark.parametrize("words", [(), ("nosuch",), ("split", "a", "b", "c"), ("info", "--nosuch")])
def test_bad_usage_is_exit_code_2(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert "usage" in err


@pytest.mark.parametrize(
    "words",
    [
        ("merge", "DB", "DB"),
        ("shuffle", "DB"),
        ("sample", "DB", "--count", 2),
        ("export", "DB"),
    ],
)
def test_an_existing_target_is_left_alone(mixed: Path, run: Run, words: tuple[Any, ...]) -> None:
    target = mixed.with_name("there")
    target.mkdir()
    filled = [mixed if word == "DB" else word for word in words]
    at = next((i for i, word in enumerate(filled) if word == "--count"), len(filled))
    code, _, err = run(*filled[:at], target, *filled[at:])
    assert code == 1
    assert "there: already exists" in err
    assert os.listdir(target) == []
