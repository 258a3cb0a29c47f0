"""What the tests ask of a message for people."""

from __future__ import annotations

import re


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 400


def advised_limit(message: str) -> list[str]:
    """The words that a message about a size says to add to the command: ``--max-bytes N``."""
    found = re.search(r"add (--max-bytes (\d+)) \(max_bytes=(\d+) in Python\)", message)
    assert found is not None, message
    assert found[2] == found[3]
    return found[1].split()
