"""Fillers, which give parameters their initial values: one file per filler type."""

from caffecompat.layers.fillers.base import Filler, fill, fillers, register

__all__ = ["Filler", "fill", "fillers", "register"]
