"""The two orders of ILSVRC's classes, told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.evaluate.classification.class_order import (
    ClassOrder,
    order_of_model,
    order_of_names,
    order_warning,
)
from tests.evaluate.classification.class_lists import names


@pytest.mark.parametrize("order", ClassOrder)
def test_names_show_their_order(order: ClassOrder) -> None:
    assert order_of_names(names(order)) is order


@pytest.mark.parametrize(
    "given",
    [[], ["cat", "dog"], names(ClassOrder.WORDNET)[:999], ["x", *names(ClassOrder.WORDNET)[1:]]],
)
def test_names_that_show_no_order(given: list[str]) -> None:
    assert order_of_names(given) is None


def test_names_in_a_third_order() -> None:
    assert order_of_names(names(ClassOrder.WORDNET)[::-1]) is None


@pytest.mark.parametrize(
    ("net", "order"),
    [
        ("VGG_CNN_S", ClassOrder.DEVKIT),
        ("VGG_CNN_M_2048", ClassOrder.DEVKIT),
        ("cnn-m", ClassOrder.DEVKIT),
        ("VGG_CNN_F", None),
        ("VGG_ILSVRC_16_layers", ClassOrder.WORDNET),
        ("CNN_Small", None),
        ("", None),
    ],
)
def test_the_order_of_a_model(net: str, order: ClassOrder | None, tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"weights")
    assert order_of_model(path, net) is order


def test_the_warning(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"weights")
    found = order_warning(path, "VGG_CNN_S", names(ClassOrder.WORDNET))
    assert found is not None
    assert "begins with n01440764 (tench), but this net was trained in the order of the IL" in found
    assert order_warning(path, "VGG_CNN_S", names(ClassOrder.DEVKIT)) is None
    assert order_warning(path, "other", names(ClassOrder.DEVKIT)) is None
    assert order_warning(path, "VGG_CNN_S", ["cat", "dog"]) is None
