"""Every message that advises something stands in a test, which follows the advice.

What is compared are words: three in a row of the advice must stand in a string of some test. A
message that is new or reworded fails here until a test provokes it and does what it says.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.places import REPOSITORY

# Where an advice begins: behind a mark, perhaps with its purpose or its condition first.
ADVICE = re.compile(
    r"[;,:(.] ?(?:to \w+(?: \w+)?, |if [^,;]+, )?"
    r"(?:add|allow|ask|build|call|change|choose|convert|copy|correct|create|delete|divide|download"
    r"|exchange|export|give|import|install|leave|look|lower|Lower|make|move|name|open|pass(?! \0)"
    r"|put|raise|read|reduce|remove|rename|repeat|replace|reshape|resize(?! or)|resume|run|save"
    r"|scale(?! and)|set|start|state|take|train|try|use|verify|wait|write) "
)
# Where the command line's help stands.
HELP_CALLS = {"add_argument", "add_parser", "add_argument_group", "ArgumentParser"}
HELP_NAMES = {"HELP", "EXAMPLE"}
VALUE = "\0"
IN_A_ROW = 3


def texts(path: Path) -> Iterator[str]:
    """The strings of a module but for docstrings and help; VALUE stands for each inserted value."""
    passed: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if _is_no_message(node):
            passed.update(id(inner) for inner in ast.walk(node))
        elif id(node) in passed:
            continue
        elif isinstance(node, ast.JoinedStr):
            passed.update(id(part) for part in node.values)
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _is_no_message(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).split(".")[-1] in HELP_CALLS
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in HELP_NAMES
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def rows_of_words(text: str) -> set[str]:
    """All runs of words between values; quotes, marks and escapes of patterns do not count."""
    rows: set[str] = set()
    for piece in text.replace("\\", "").split(VALUE):
        words = re.findall(r"\w+", piece)
        rows.update(" ".join(words[i : i + IN_A_ROW]) for i in range(len(words) - IN_A_ROW + 1))
    return rows


class Quotes:
    """What the tests quote."""

    def __init__(self) -> None:
        found = {text for path in (REPOSITORY / "tests").rglob("*.py") for text in texts(path)}
        self._rows = set().union(*map(rows_of_words, found))
        self._text = "\n".join(found).replace("\\", "")

    def has(self, advice: str) -> bool:
        """Whether a test has words of an advice; of one with few words all, around any values."""
        rows = rows_of_words(advice)
        if rows:
            return not rows.isdisjoint(self._rows)
        pieces = [re.escape(piece) for piece in advice.strip(VALUE + ";,:(. ").split(VALUE)]
        return re.search(".+?".join(pieces), self._text) is not None


def advice_in(text: str) -> str:
    """The part of a message from its advice on; empty if there is none."""
    is_code = re.search(r"\n +return ", text)
    found = None if is_code else ADVICE.search(text)
    return text[found.start() :] if found else ""


def test_each_advice_is_in_a_test() -> None:
    tested, untested, seen = Quotes(), [], 0
    for path in sorted((REPOSITORY / "caffecompat").rglob("*.py")):
        for text in texts(path):
            if advice := advice_in(text):
                seen += 1
                if not tested.has(advice):
                    name = path.relative_to(REPOSITORY)
                    untested.append(f"{name}: {text.replace(VALUE, '{}')}")
    assert seen > 350
    assert not untested, "\n".join(["no test has the words of this advice:", *untested])
