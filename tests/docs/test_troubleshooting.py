"""Every message that docs/troubleshooting.md explains is one that the code can give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
HEADINGS = re.findall(r"^## `(.+)`$", PAGE.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def texts_in_code() -> list[str]:
    """The texts of string literals, with a line break where a value stands."""
    found = []
    # Most modules need not be parsed: they do not have all the words of any message.
    messages = [message.split() for message in HEADINGS]
    for path in (ROOT / "caffecompat").rglob("*.py"):
        code = path.read_text()
        if not any(all(word in code for word in words) for words in messages):
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "\n" for p in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_page_has_nothing_but_messages() -> None:
    assert len(HEADINGS) > 8
    assert len(HEADINGS) == PAGE.read_text().count("\n## ")


@pytest.mark.parametrize("message", HEADINGS)
def test_the_message_exists(message: str, texts_in_code: list[str]) -> None:
    assert any(message in text for text in texts_in_code)
