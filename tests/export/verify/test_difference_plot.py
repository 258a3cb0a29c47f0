"""The picture of differences: of any number of values, with any names."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from caffecompat.export.verify.difference_plot import plot_differences
from caffecompat.export.verify.verification import Comparison, Difference


@pytest.mark.parametrize("names", [["$x^$", "a\x1b\nb", "n" * 1_000_000], ["v"] * 5_000])
def test_any_values_have_a_picture(names: list[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    differences = [Difference(name, (2, 3), 0.5, 0.25) for name in names]
    path = tmp_path / "x.png"
    plot_differences(Comparison(differences, 0.1), str(path))
    drawn = cv2.imread(str(path))
    assert drawn is not None
    assert 600 < drawn.shape[1] <= 1 << 16
