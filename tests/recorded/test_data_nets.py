"""Nets of data layers against what BVLC Caffe 1.0 recorded, pass by pass, through ``Net``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.errors import CaffeError
from caffecompat.layers.memory_data import MemoryData

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "golden" / "data" / "layers"

# Decoders, conversion to gray and resizing may differ by that many gray levels between builds.
GRAY_LEVELS = 2

# Recorded behaviour that we do not follow, each with its reason; docs/deviations.md has them all.
NOT_FOLLOWED = {
    "dummy_inplace": (
        "in Caffe an in-place layer changes DummyData's constant for good, so that every pass "
        "starts from the result of the last; here every layer is a function of its bottoms"
    ),
}


def cases() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "index.json").read_text()) if FOLDER.is_dir() else []


@pytest.mark.parametrize("case", cases(), ids=lambda c: c["name"])
def test_passes(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if case["name"] == "hdf5_output":
        pytest.skip("a folder of nets that write files, with tests of its own")
    monkeypatch.chdir(FOLDER / case["name"])
    facts = json.loads(Path("case.json").read_text())
    if not facts["works"]:
        with pytest.raises(CaffeError) as caught:
            run(facts)
        assert len(str(caught.value).splitlines()) == 1
        return
    recorded = np.load("out.npz")
    exact = all(
        word not in Path("net.prototxt").read_text() for word in ("encoded", "Image", "Win")
    )
    far = []
    for number, blobs in enumerate(run(facts)):
        for name, found in blobs.items():
            expected = recorded[f"{number}/{name}"]
            assert found.shape == expected.shape, name
            atol = 0 if exact else GRAY_LEVELS
            if not np.allclose(found, expected, rtol=0, atol=atol, equal_nan=True):
                far.append(f"pass {number}, blob {name}: off by {np.abs(found - expected).max()}")
    if case["name"] in NOT_FOLLOWED:
        assert far, "it agrees by now; take it from the table and from docs/deviations.md"
    else:
        assert not far


def run(facts: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    net = Net("net.prototxt", phase=facts["phase"])
    try:
        net.observe = True
        for built in net.layers:
            if isinstance(built.layer, MemoryData) and Path("memory.npz").exists():
                memory = np.load("memory.npz")
                built.layer.set(memory["data"], memory["label"])
        passes = []
        for index in range(facts["passes"] or 8):
            net.run(index)
            blobs = facts["blobs"] or list(net.blobs)
            passes.append({name: net.blobs[name].data.numpy().copy() for name in blobs})
        return passes
    finally:
        net.close()
