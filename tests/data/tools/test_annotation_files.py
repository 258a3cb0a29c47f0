"""Annotation files with numbers that are none: one sentence each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caffecompat.data.label_map import LabelMap
from caffecompat.data.tools.annotation_files import read_annotations
from caffecompat.errors import FormatError

CAT = LabelMap("map", {1: "cat"})
SIZE = (12, 16)


@pytest.mark.parametrize("kind", ["json", "txt", "xml"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "-1e400", "9" * 400])
@pytest.mark.parametrize("place", range(4))
def test_boxes_without_numbers(kind: str, number: str, place: int, tmp_path: Path) -> None:
    edges = ["1", "2", "3", "4"]
    edges[place] = number
    box = f"[{', '.join(edges)}]"
    corners = zip(("xmin", "ymin", "xmax", "ymax"), edges, strict=True)
    texts = {
        "json": f'{{"annotation": [{{"category_id": "cat", "bbox": {box}}}]}}',
        "txt": f"1 {' '.join(edges)}\n",
        "xml": "<a><object><name>cat</name><bndbox>"
        + "".join(f"<{name}>{value}</{name}>" for name, value in corners)
        + "</bndbox></object></a>",
    }
    path = tmp_path / f"a.{kind}"
    path.write_text(texts[kind])
    with pytest.raises(FormatError, match=r"four numbers of pixels|it is not JSON with 'image'"):
        read_annotations(str(path), kind, SIZE, CAT)


@pytest.mark.parametrize("crowd", ["Infinity", "NaN", '"x"', "[]"])
def test_a_flag_that_is_no_number(crowd: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    box = json.dumps([1, 2, 3, 4])
    path.write_text(
        f'{{"annotation": [{{"category_id": "cat", "bbox": {box}, "iscrowd": {crowd}}}]}}'
    )
    with pytest.raises(FormatError, match="it is not JSON with 'image'"):
        read_annotations(str(path), "json", SIZE, CAT)
