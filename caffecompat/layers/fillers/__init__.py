"""Fillers, which give parameters their initial values: one file per filler type."""

from caffecompat.layers.fillers.base import (
    FORK_FIELDS,
    Filler,
    check_filler,
    fill,
    fillers,
    register,
)

__all__ = ["FORK_FIELDS", "Filler", "check_filler", "fill", "fillers", "register"]
