"""Lists of class names in both orders of ILSVRC."""

from __future__ import annotations

from caffecompat.evaluate.classification.class_order import ClassOrder

KIT_FOX = "n02119789"


def names(order: ClassOrder) -> list[str]:
    """A thousand made-up names in one of the orders."""
    ids = sorted({KIT_FOX, *(f"n{1440764 + 7000 * number:08}" for number in range(999))})
    if order is ClassOrder.DEVKIT:
        ids.remove(KIT_FOX)
        ids = [KIT_FOX, *reversed(ids)]
    return [f"{identifier} something, a name" for identifier in ids]
