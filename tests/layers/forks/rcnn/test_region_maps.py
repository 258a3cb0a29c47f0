"""The maps of targets of ImageGtData and DetectionData."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.layers.forks.rcnn.region_sources import Box, listed, picture, read, rounded, source

pytest.importorskip("cv2")


def overlap(a: Any, b: Any, more: int, mode: str = "union") -> float:
    """Of two boxes; ``more`` is 1 where the last pixel is in the box."""
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    apart = (x1 > x2 or y1 >= y2) if more else (x1 >= x2 or y1 >= y2)
    shared = 0.0 if apart else (x2 - x1 + more) * (y2 - y1 + more)
    first = (a[2] - a[0] + more) * (a[3] - a[1] + more)
    second = (b[2] - b[0] + more) * (b[3] - b[1] + more)
    return float(shared / (first if mode == "first" else first + second - shared))


def expected_maps(
    canvas: tuple[int, int],
    objects: list[tuple[int, bool, list[float]]],
    regions: Sequence[Box],
    anchors: list[tuple[int, int, int]],
    more: int,
    usable: Any = None,
) -> list[np.ndarray]:
    """The maps of an image that fills the canvas; anchors are (stride, height, width)."""
    maps, hits = [], [0] * len(objects)
    best: list[tuple[float, int]] = [(0.0, 0)] * len(objects)
    for number, (stride, height, width) in enumerate(anchors):
        rows, columns = rounded(canvas[0] / stride), rounded(canvas[1] / stride)
        found = np.zeros((6, rows, columns), np.float32)
        for i, j in np.ndindex(rows, columns):
            x, y = (j + 0.5) * stride, (i + 0.5) * stride
            anchor = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            covered = sum(overlap(anchor, r, more, "first") for r in regions) >= 0.4
            if (covered and not more) or (usable and not usable(anchor, width, height)):
                found[5, i, j] = 1
                continue
            shares = [overlap(box, anchor, more) for _, _, box in objects]
            for k, share in enumerate(shares):
                if share > best[k][0]:
                    best[k] = (share, number)
            largest = max(shares, default=0.0)
            found[5, i, j] = largest
            if largest > 0.5:
                k = shares.index(largest)
                hits[k] += 1
                found[:5, i, j] = target(*objects[k], more)
            elif covered:
                found[5, i, j] = 1
        maps.append(found)
    for k, (label, ignored, box) in enumerate(objects):
        share, number = best[k]
        if ignored or hits[k] or share < 0.2:
            continue
        values = target(label, ignored, box, more)
        i, j = (int(values[a] // anchors[number][0]) for a in (2, 1))
        if maps[number][0, i, j] == 0:
            maps[number][:5, i, j] = values
            if more:
                maps[number][5, i, j] = share
    return maps


def target(label: int, ignored: bool, box: list[float], more: int) -> list[float]:
    x1, y1, x2, y2 = box
    return [0 if ignored else label, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1 + more, y2 - y1 + more]


OBJECTS = [
    (2, 0, 3, 5, 18, 20),
    (1, 0, 20, 8, 30, 28),
    (3, 1, 8, 24, 22, 38),
    (4, 0, 30, 30, 36, 37),
    (1, 0, 1, 30, 4, 33),
]
REGIONS = [(0, 20, 12, 40), (33, 0, 40, 10)]
ANCHORS = [(4, 14, 14), (8, 24, 16)]
MAPS = (
    "downsample_rate: 4 field_h: 14 field_w: 14 downsample_rate: 8 field_h: 24 field_w: 16 "
    "output_gt_boxes: true"
)


def test_maps_of_ms_cnn(tmp_path: Path) -> None:
    pixels = picture(0, 40, 40)
    path = listed(tmp_path, [(pixels, OBJECTS, REGIONS)])
    layer = source("ImageGtData", path, f"batch_size: 1 min_gt_width: 5 {MAPS} scale: 0.5", 4)
    assert layer.shapes == [(1, 3, 40, 40), (1, 6, 10, 10), (1, 6, 5, 5), (1, 7, 1, 1)]
    data, *maps, rows = read(layer)
    assert np.array_equal(data[0], pixels.transpose(2, 0, 1).astype(np.float32) / 2)
    objects = [(o[0], bool(o[1]), list(map(float, o[2:]))) for o in OBJECTS]
    objects[4] = (1, True, objects[4][2])  # narrower than 5 pixels
    for found, wanted in zip(
        maps, expected_maps((40, 40), objects, REGIONS, ANCHORS, 0), strict=True
    ):
        np.testing.assert_allclose(found[0], wanted, rtol=1e-6)
        assert (wanted[0] > 0).any()
    expected = [[0, *box, label, ignored] for label, ignored, box in objects]
    assert rows.reshape(-1, 7).tolist() == expected


@pytest.mark.parametrize(
    "edge", ["", "anchor_ignore_margin_ratio: 0.4", "anchor_ignore_iou_thr: 0.8"]
)
def test_maps_of_cascade_rcnn(tmp_path: Path, edge: str) -> None:
    objects = [(o[0], o[1], 1 - o[1], *o[2:]) for o in OBJECTS]
    path = listed(tmp_path, [(picture(0, 40, 40), objects, REGIONS)])
    text = MAPS.replace("downsample_rate", "stride")
    layer = source("DetectionData", path, f"batch_size: 1 {text} {edge}| scale: 2 mean_value: 3", 4)
    data, *maps, rows = read(layer)
    assert np.array_equal(
        data[0], (picture(0, 40, 40).transpose(2, 0, 1).astype(np.float32) - 3) * 2
    )

    def usable(anchor: Any, width: int, height: int) -> bool:
        if "margin" in edge:
            x, y = 0.4 * width / 2, 0.4 * height / 2
            return bool(
                anchor[0] >= -x and anchor[1] >= -y and anchor[2] < 40 + x and anchor[3] < 40 + y
            )
        return not edge or overlap(anchor, (0, 0, 40, 40), 1, "first") >= 0.8

    plain = [(o[0], bool(o[1]), list(map(float, o[2:]))) for o in OBJECTS]
    wanted = expected_maps((40, 40), plain, REGIONS, ANCHORS, 1, usable)
    for found, right in zip(maps, wanted, strict=True):
        np.testing.assert_allclose(found[0], right, rtol=1e-5)
    assert rows.reshape(-1, 8)[:, 5:].tolist() == [[o[0], o[1], 1 - o[1]] for o in OBJECTS]
