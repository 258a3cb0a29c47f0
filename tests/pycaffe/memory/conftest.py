"""Each test runs twice: arrays may be the memory of the device, or not."""

from __future__ import annotations

import pytest

from caffecompat.pycaffe.execution import blob_memory


@pytest.fixture(autouse=True, params=["shared memory", "own memory"])
def device_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether arrays are the memory of the device, or copies of it as on a GPU."""
    if request.param == "own memory":
        monkeypatch.setattr(blob_memory, "has_own_memory", lambda device: True)
