"""docs/deviations.md names every recorded case that we do not follow, and no other.

What has no recorded case is shown by a net here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from caffecompat.layers import catalogue
from tests.net.nets import net
from tests.recorded.exceptions import EXCEPTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "deviations.md"


def named_cases() -> list[str]:
    """The names in the columns headed "recorded"."""
    found: list[str] = []
    recorded = False
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            recorded = False
        elif cells[-1] == "recorded":
            recorded = True
        elif recorded:
            found += re.findall(r"`([^`]+)`", cells[-1])
    return found


def test_the_page_and_the_table_of_the_tests_are_equal() -> None:
    assert sorted(named_cases()) == sorted(EXCEPTIONS)


def test_the_readme_links_the_page() -> None:
    assert "(docs/deviations.md)" in (ROOT / "README.md").read_text()


X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { %s } } }\n'


def test_a_layer_in_place_behind_flatten_leaves_the_source_alone() -> None:
    small = net(
        X % "dim: 1 dim: 2 dim: 1"
        + 'layer { name: "f" type: "Flatten" bottom: "x" top: "f" }'
        + 'layer { name: "r" type: "ReLU" bottom: "f" top: "f" }'
        + 'layer { name: "later" type: "Power" bottom: "x" top: "later" }'
    )
    outputs = small.forward(x=torch.tensor([[[-3.0], [2.0]]]))
    assert outputs["f"].tolist() == [[0, 2]]
    assert outputs["later"].flatten().tolist() == [-3, 2]


def test_an_elementwise_scale_adds_its_gradients_up() -> None:
    small = net(
        X % "dim: 1 dim: 2"
        + 'layer { name: "s" type: "Scale" bottom: "x" top: "s" }'
        + 'layer { name: "l" type: "Reduction" bottom: "s" top: "l" loss_weight: 1 }',
        phase="train",
    )
    for _ in range(2):
        small.forward(x=torch.tensor([[3.0, 5.0]]))
        small.backward()
    gradient = small.params["s"][0].grad
    assert gradient is not None
    assert gradient.tolist() == [6, 10]


@pytest.mark.parametrize(("method", "empty"), [("AVE", 0.0), ("MAX", torch.finfo().min)])
def test_pooling_windows_outside_the_plane(method: str, empty: float) -> None:
    small = net(
        X % "dim: 1 dim: 1 dim: 3 dim: 1"
        + 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param {'
        + f" pool: {method} kernel_size: 1 stride: 3 }} }}"
    )
    found = small.forward(x=torch.ones(1, 1, 3, 1))["p"].flatten().tolist()
    assert found == [1, empty]


def test_what_blobs_show() -> None:
    text = X % "dim: 2" + (
        'layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: 2 } }'
        'layer { name: "l" type: "Reduction" bottom: "a" top: "l" loss_weight: 1 }'
        'layer { name: "m" type: "Reduction" bottom: "a" top: "m" loss_weight: 10 }'
    )
    small = net(text, phase="train")
    small.forward()
    assert float(small.blobs["l"].diff) == 0
    small = net("force_backward: true " + text, phase="train")
    small.forward()
    small.backward()
    for name in ("a", "a_a_0_split_0", "a_a_0_split_1"):
        assert small.blobs[name].diff.tolist() == [11, 11]


def test_a_gradient_given_for_a_loss_adds_to_its_weight() -> None:
    text = X % "dim: 2" + (
        'layer { name: "l" type: "Reduction" bottom: "x" top: "l" loss_weight: 1 }'
    )
    small = net("force_backward: true " + text, phase="train")
    small.forward()
    small.backward(l=torch.tensor(4.0))
    assert small.blobs["x"].diff.tolist() == [5, 5]


def test_the_layer_types_of_forks_are_there() -> None:
    section = PAGE.read_text().split("\n## Layers of forks\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines()]
    types = [
        name.split(" ")[0]
        for row in rows
        if row[:1].isupper() and not row.startswith("Layer types")
        for name in row.split(", ")
        if not name.startswith("For ")
    ]
    assert len(types) > 15
    known = {name.split(" (")[0] for name in catalogue}
    assert set(types) <= known
