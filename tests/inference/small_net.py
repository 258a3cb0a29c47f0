"""A small net for engines, and modules that are missing."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from tests.inference.engine_nets import conv, inner, simple

SMALL = [conv("c", "data"), simple("ReLU", "r", "c"), inner("f", "c")]


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Makes modules impossible to import."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".")[0] in names:
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    for name in list(sys.modules):
        if name.split(".")[0] in names:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
