"""What a process that forks does first, so that no fork has to."""

from __future__ import annotations

import importlib
import pkgutil

import caffecompat


def load_package() -> None:
    """Imports every module of the package, and with them the libraries that it uses."""
    for module in pkgutil.walk_packages(caffecompat.__path__, "caffecompat."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
