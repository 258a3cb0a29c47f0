"""SubCNN's layers that make training regions, against loops over their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.layers.single import call

# Two scales, of which the first maps to the second; two anchors, heights before widths.
PYRAMID = [2, 2, 0.5, 1.0, 1, 1, 3, 1, 1, 2]


def test_heatmap_generating() -> None:
    x = distinct((2, 4, 3, 5)).requires_grad_()
    (y,) = run("HeatmapGenerating", "", x)
    assert tuple(y.shape) == (2, 1, 3, 5)
    for n, i, j in np.ndindex(2, 3, 5):
        assert y.detach()[n, 0, i, j] == max(float(x.detach()[n, 1:, i, j].max()), -1)
    y.sum().backward()
    assert x.grad is not None
    for n, i, j in np.ndindex(2, 3, 5):
        seen = x.detach()[n, 1:, i, j]
        first = 1 + int(seen.argmax()) if seen.max() > -1 else 0
        assert x.grad[n, :, i, j].tolist() == [float(k == first) for k in range(4)]


def rows(*entries: tuple[int, int, int, int]) -> Tensor:
    """Positives (column, row, map, class) with made-up regions and targets."""
    made_up = []
    for column, row, number, cls in entries:
        region = [number, column + 0.1, row + 0.2, column + 2.1, row + 2.2]
        mapped = [number + 7, column, row, column + 4, row + 4]
        made_up.append([column, row, *region, *mapped, cls, cls + 5, 0.1, 0.2, 0.3, 0.4])
    return torch.tensor(made_up, dtype=torch.float64).reshape(-1, 18)


def generated(maps: Tensor, positives: Tensor, text: str = "", tops: int = 7) -> list[Tensor]:
    settings = f"roi_generating_param {{ batch_size: 8 num_classes: 3 spatial_scale: 0.5 {text} }}"
    numbers = torch.tensor(PYRAMID, dtype=torch.float64)
    layer = made("ROIGenerating", settings, maps.shape, positives.shape, numbers.shape, tops=tops)
    return [top.flatten(1) for top in call(layer, [maps, positives, numbers], [])]


def test_regions_are_hard_positives_and_hard_negatives() -> None:
    # Two images of two scales: maps 0 and 1, and 2 and 3.
    maps = distinct((4, 1, 3, 4)) / 2 + 1
    positives = rows((1, 0, 0, 1), (3, 2, 1, 2), (0, 1, 1, 1), (2, 2, 3, 2))
    tops = generated(maps, positives, "fg_fraction: 0.5")
    regions, subclasses, targets, inside, outside, mapped, classes = tops
    scores = [maps[0, 0, 0, 1], maps[1, 0, 2, 3], maps[1, 0, 1, 0]]
    # Four regions for each image, at most two of them positives: the least probable of three.
    hard = sorted(range(3), key=lambda i: float(scores[i]))[:2]
    chosen = [*hard, 3]
    assert torch.equal(regions[:3], positives[chosen, 2:7])
    assert torch.equal(mapped[:3], positives[chosen, 7:12])
    assert classes[:, 0].tolist() == [*positives[chosen, 12].tolist(), 0, 0, 0, 0, 0]
    assert subclasses[:, 0].tolist() == [*positives[chosen, 13].tolist(), 0, 0, 0, 0, 0]
    for i, k in enumerate(chosen):
        cls = int(positives[k, 12])
        expected = torch.zeros(12, dtype=torch.float64)
        expected[4 * cls : 4 * cls + 4] = positives[k, 14:]
        assert torch.equal(targets[i], expected)
        assert torch.equal(inside[i], (expected != 0).to(torch.float64))
    assert torch.equal(inside, outside)
    assert not inside[3:].any()
    check_negatives(maps, positives, regions[3:], mapped[3:])


def check_negatives(maps: Tensor, positives: Tensor, regions: Tensor, mapped: Tensor) -> None:
    """Two negatives of the first image, three of the second."""
    left = maps.clone()
    for column, row, number in positives[:, :3].long().tolist():
        left[number, 0, row, column] = -1
    at = 0
    for image, count in ((0, 2), (1, 3)):
        flat = left[2 * image : 2 * image + 2].flatten()
        for cell in flat.argsort(descending=True)[:count].tolist():
            number, row, column = 2 * image + cell // 12, cell % 12 // 4, cell % 4
            boxes = {
                (number, 2 * column - w, 2 * row - h, 2 * column + w, 2 * row + h)
                for h, w in ((3, 1), (1, 2))
            }
            found = tuple(regions[at].tolist())
            assert found in boxes
            # The first scale reaches half as far; from there on there is no other scale.
            maps_to = number
            factor = 1.0
            if number % 2 == 0 and column < 2 and row < 1.5:
                maps_to, factor = number + 1, 2.0
            assert mapped[at, 0] == maps_to
            assert mapped[at, 1:].tolist() == [factor * v for v in found[1:]]
            at += 1
    assert at == len(regions)


def test_anchors_are_drawn_for_the_pass() -> None:
    maps = distinct((2, 1, 6, 7)) / 8 + 1
    first = generated(maps, rows(), tops=5, text="flag_proposal_only: 1")
    assert [len(top) for top in first] == [8] * 5
    again = generated(maps, rows(), tops=5, text="flag_proposal_only: 1")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    heights = set((first[0][:, 4] - first[0][:, 2]).tolist())
    assert heights == {6.0, 2.0}


def test_a_cell_counts_once() -> None:
    """Of two positives of one cell the second has the probability -1."""
    maps = distinct((2, 1, 3, 4)) / 2 + 1
    positives = rows((1, 1, 0, 1), (1, 1, 0, 2), (2, 1, 0, 1))
    regions = generated(maps, positives, "fg_fraction: 0.125")[0]
    assert torch.equal(regions[0], positives[1, 2:7])


def test_wrong_bottoms_of_roi_generating() -> None:
    maps = distinct((4, 1, 3, 4))
    with pytest.raises(LayerError, match="cell outside"):
        generated(maps, rows((1, 5, 3, 1)))
    with pytest.raises(LayerError, match="class outside 0 to 2"):
        generated(maps, rows((1, 1, 0, 3)))
    with pytest.raises(LayerError, match="no multiple of 2"):
        generated(maps[:3], rows())
    with pytest.raises(LayerError, match="gives 7"):
        generated(maps, rows(), tops=6)
