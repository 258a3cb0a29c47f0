"""Random small layers of every type: definition, bottoms, what the bottoms hold.

Importing this package fills ``examples``; a new file beside this one needs no other mention.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.layers.strategies import examples

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["examples"]
