"""What tests of nets share."""

from __future__ import annotations

import pytest

from caffecompat.layers import catalogue


@pytest.fixture
def own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer types that a test registers are forgotten after it."""
    assert list(catalogue), "all are imported first: what a test imported would be forgotten, too"
    definitions = {name: dict(found) for name, found in catalogue._by_type.items()}
    monkeypatch.setattr(catalogue, "_entries", dict(catalogue._entries))
    monkeypatch.setattr(catalogue, "_by_type", definitions)
