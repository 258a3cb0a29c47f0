"""Engines that run a model, one file each; ``base.py`` is their class."""
