"""Engines that run a model, one file each; see caffecompat.export.engine."""
