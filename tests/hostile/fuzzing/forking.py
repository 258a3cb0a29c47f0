"""What a process that forks does first, so that no fork has to."""

from __future__ import annotations

import importlib
import pkgutil

import caffecompat


def load_package() -> None:
    """Imports every module of the package, and with them the libraries that it uses.

    Left out are the Triton kernels, which need a library that comes with torch for GPUs only.
    """
    for module in pkgutil.walk_packages(caffecompat.__path__, "caffecompat."):
        if not module.name.endswith("__main__") and ".triton_code" not in module.name:
            importlib.import_module(module.name)
