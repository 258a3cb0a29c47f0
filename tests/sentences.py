"""What the tests ask of a message for people."""

from __future__ import annotations


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 400
