"""An image, and a window file that names it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.sources.window_files import FILE


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), values)
    return tmp_path / "a.png"


@pytest.fixture
def windows(image: Path, tmp_path: Path) -> str:
    (tmp_path / "windows.txt").write_text(FILE.format(image=image))
    return str(tmp_path / "windows.txt")
