"""What was chosen where the VGG paper leaves a choice, in words, with what else there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_INTERPOLATIONS = ("smooth", "bilinear", "bicubic", "area")


def evaluation_choices(settings: Mapping[str, Any]) -> list[str]:
    """The choices of a classification, from the settings in its file of posteriors.

    Returns:
        clauses like ``"smooth interpolation, not bilinear, bicubic or area"``.
    """
    protocols = settings.get("protocols", [])
    clauses = []
    if "dense" in protocols:
        clauses.append(
            "posteriors averaged over the map, not scores"
            if settings.get("average") == "posteriors"
            else "scores averaged over the map, not posteriors"
        )
    if "multicrop" in protocols:
        clauses.append("grid of crops up to the border, not inside it")
    if "multicrop-inside" in protocols:
        clauses.append("grid of crops inside the border, not up to it")
    return clauses + preparation_choices(settings)


def preparation_choices(settings: Mapping[str, Any]) -> list[str]:
    """How images were prepared, from the JSON values of an ``ImagePreparation``."""
    used = settings.get("interpolation")
    others = [name for name in _INTERPOLATIONS if name != used]
    rounding = ("down", "to the nearest pixel")
    if not settings.get("round_down"):
        rounding = rounding[::-1]
    clauses = [
        f"{used} interpolation, not {', '.join(others[:-1])} or {others[-1]}",
        f"longer side rounded {rounding[0]}, not {rounding[1]}",
    ]
    if "mean_image" in settings:
        clauses.append("mean image stretched to the size of the image, not its channel means")
    return clauses
