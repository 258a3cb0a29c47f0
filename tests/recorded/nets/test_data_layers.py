"""Nets of data layers against what BVLC Caffe 1.0 yielded, pass by pass, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.errors import CaffeError
from caffecompat.layers.memory_data import MemoryData
from tests.recorded.cases import Case
from tests.recorded.exceptions import assert_agrees
from tests.recorded.tolerances import image_tolerance
from tests.sentences import assert_one_sentence


@pytest.mark.recorded_cases("data layers")
def test_passes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.path)
    if not case.facts["works"]:
        with pytest.raises(CaffeError) as caught:
            run(case)
        assert_one_sentence(str(caught.value))
        return
    far = []
    with np.load("out.npz") as recorded:
        passes = run(case)
        compared = [f"{i}/{name}" for i, blobs in enumerate(passes) for name in blobs]
        assert sorted(compared) == sorted(recorded.files)
        for key in compared:
            number, name = key.split("/", 1)
            found, expected = passes[int(number)][name], recorded[key]
            assert found.shape == expected.shape, key
            assert found.dtype == np.float32, key
            bound = image_tolerance(case)
            if not np.allclose(found, expected, rtol=0, atol=bound, equal_nan=True):
                far.append(f"{key}: off by {np.abs(found - expected).max()}, allowed {bound}")
    assert_agrees(case.name, far)


def run(case: Case) -> list[dict[str, np.ndarray]]:
    """The recorded blobs of each pass of the case in the current folder."""
    net = Net("net.prototxt", phase=case.facts["phase"])
    try:
        net.observe = True
        for built in net.layers:
            if isinstance(built.layer, MemoryData) and Path("memory.npz").exists():
                memory = np.load("memory.npz")
                built.layer.set(memory["data"], memory["label"])
        passes = []
        for index in range(case.facts["passes"] or 8):
            net.run(index)
            blobs = case.facts["blobs"] or list(net.blobs)
            passes.append({name: net.blobs[name].data.numpy().copy() for name in blobs})
        return passes
    finally:
        net.close()
