"""Lists of images with objects: their mistakes, and the orders of the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caffecompat.data.sources.objects.region_images import shuffled
from caffecompat.data.sources.objects.region_lists import read_region_list
from caffecompat.errors import CaffeError, DataError


def test_orders() -> None:
    sizes = [(4, 8), (8, 4), (5, 5), (3, 9), (9, 3), (1, 2), (7, 7)]
    images: list[Any] = [type("One", (), {"height": h, "width": w}) for h, w in sizes]
    high = {1, 2, 4, 6}
    first = set()
    for times in range(12):
        order = shuffled(images, "random_aspect", 1, 5)(times).tolist()
        assert sorted(order) == list(range(7))
        first.add(order[0] in high)
        cut = 4 if order[0] in high else 3
        assert set(order[:cut]) in (high, {0, 3, 5})
        mixed = shuffled(images, "random_mix_aspect", 2, 5)(times).tolist()
        assert sorted(mixed) == list(range(7))
        kinds = [i in high for i in mixed]
        assert kinds[:4] in ([True, True, False, False], [False, False, True, True])
    assert first == {True, False}
    plain = [tuple(shuffled(images, "random", 1, 5)(times)) for times in range(5)]
    assert len(set(plain)) == 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the list is empty"),
        ("x 0 a.png 3 2 2 0 0", "found 'x', expected '#'"),
        ("# 0 a.png 3 2 2 1 1 0 4 4 9", "it ends too early"),
        ("# 0 a.png 3 2 2 1 0 0 4 4 9 9 0", "the label 0, expected 1 or more"),
        ("# 0 a.png 3 2 2 1 1 0 9 4 4 9 0", "ends before it begins"),
        ("# 7 a.png 3 2 2 -1 0", "a number of boxes is -1"),
        ("# 0 a.png 3 2 2 99999999999 0", "expected a whole number"),
        ("# 0 a.png 3 2 2 0 1 1 1 2.5 2", "found '2.5'"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_region_list(str(path), False)


def test_claims_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("# 0 a.png 3 2 2 999999999 1 0 1 1 2 2")
    with pytest.raises(DataError, match="ends too early"):
        read_region_list(str(path), False)
    with pytest.raises(CaffeError, match="more than"):
        read_region_list(str(path), False, 10)
