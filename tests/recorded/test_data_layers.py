"""Data layers against what BVLC Caffe yielded or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recorded.data_layers import CASES, DATA, replay

COPIED = sorted(path.name for path in (DATA / "layers").iterdir() if path.is_dir())


@pytest.mark.parametrize("name", COPIED)
def test_copied_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replay(DATA / "layers" / name, monkeypatch)


@pytest.mark.parametrize("name", [case["name"] for case in CASES])
def test_recorded_case(name: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = golden / "data" / "layers" / name
    replay(folder, monkeypatch)
