"""The interpreter that rounds, for all tests of kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.net.kernels.devices import mend_interpreter


@pytest.fixture(autouse=True)
def rounding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mend_interpreter(monkeypatch)
    # It computes with numpy, which warns of products such as that of infinity and 0.
    with np.errstate(invalid="ignore", over="ignore"):
        yield
