"""Fillers: how a fresh parameter gets its first values; one file per kind, found by presence."""

from caffecompat.layers.fillers.base import Filler, fill, fillers, register

__all__ = ["Filler", "fill", "fillers", "register"]
