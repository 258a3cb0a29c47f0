"""The interpreter that rounds, for all tests of kernels."""

from __future__ import annotations

import pytest

from tests.net.kernels.devices import mend_interpreter


@pytest.fixture(autouse=True)
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    mend_interpreter(monkeypatch)
