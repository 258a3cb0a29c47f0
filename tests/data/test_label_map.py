"""Label maps: of many classes, and with names twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.data.label_map import read_label_map
from caffecompat.errors import DataError


def item(label: int, name: str, shown: str = "") -> str:
    display = f' display_name: "{shown}"' if shown else ""
    return f'item {{ name: "{name}" label: {label}{display} }}\n'


def test_a_hundred_thousand_classes(tmp_path: Path) -> None:
    """With a search through all for each it would take minutes."""
    path = tmp_path / "map.prototxt"
    count = 100_000
    path.write_text("".join(item(i, f"c{i}") for i in range(count)))
    found = read_label_map(str(path))
    assert [found.label(f"c{i}") for i in range(count)] == list(range(count))
    assert len(read_label_map(str(path), unique=False).names) == count


def test_of_a_name_twice_the_last_counts_where_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "map.prototxt"
    path.write_text(item(3, "cat") + item(1, "dog", "Dog") + item(7, "cat"))
    with pytest.raises(DataError, match="two items have the name 'cat'"):
        read_label_map(str(path))
    found = read_label_map(str(path), unique=False)
    assert found.names == {1: "dog", 7: "cat"}
    assert (found.label("cat"), found.label("dog")) == (7, 1)
    assert found.display_names == {3: "cat", 1: "Dog", 7: "cat"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (item(1, "a") + item(1, "b"), "two items have the label 1"),
        ("# nothing\n", "the label map has no item"),
        (item(1, "a" * 1_000_000) * 2, "two items have the name 'a{99}\\.\\.a{99}'"),
    ],
)
def test_what_is_no_label_map(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "map.prototxt"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_label_map(str(path))
