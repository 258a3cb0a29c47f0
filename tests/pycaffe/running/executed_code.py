"""Code that is executed, and its result."""

from __future__ import annotations


def ran(code: str) -> object:
    """What the code has called ``result``."""
    names: dict[str, object] = {}
    exec(code, names)
    return names["result"]
