"""CTPN's boxes of text against loops over positions and anchors."""

from __future__ import annotations

from math import exp

import numpy as np
import torch

from tests.layers.messages import run

TEXT = "Python (ProposalLayer of CTPN)"
# First and last row of each anchor at the first position, as numpy's whole numbers give them.
ROWS = [(2, 12), (0, 15), (-3, 18), (-8, 23), (-16, 31), (-26, 41), (-40, 55), (-61, 76)]
ROWS += [(-91, 106), (-133, 148)]


def test_boxes_of_text() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(1, 20, 3, 4, generator=generator, dtype=torch.float64)
    deltas = torch.randn(1, 20, 3, 4, generator=generator, dtype=torch.float64) * 0.3
    info = torch.tensor([[60.0, 55, 1]], dtype=torch.float64)
    text = """python_param { module: "layers.text_proposal_layer" layer: "ProposalLayer"
              param_str: "'feat_stride': 16" }"""
    boxes, found = run(TEXT, text, scores, deltas, info, tops=2)
    expected, shares = [], []
    for y in range(3):
        for x in range(4):
            for a, (first, last) in enumerate(ROWS):
                move, factor = deltas[0, 2 * a : 2 * a + 2, y, x].tolist()
                rows = last - first + 1
                high = exp(factor) * rows
                top = move * rows + (first + last) / 2 + 16 * y - high / 2
                box = [16 * x, top, 16 * x + 15, top + high]
                limits = [54, 59, 54, 59]
                expected.append([max(min(v, m), 0) for v, m in zip(box, limits, strict=True)])
                shares.append(float(scores[0, 10 + a, y, x]))
    np.testing.assert_allclose(boxes, expected)
    np.testing.assert_array_equal(found[:, 0], shares)
