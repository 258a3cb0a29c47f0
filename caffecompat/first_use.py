"""Names of a package that are imported when they are first used, so that the package is cheap."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from caffecompat.garbage_collection import collections_paused


def names_at_first_use(
    package: str, modules: Mapping[str, str], hint: Callable[[str], str] = lambda name: ""
) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names lie in other modules.

    Args:
        package: its name, for the message about another name.
        modules: for each name the module that has it.
        hint: the end of that message.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint(name)}")
        # torch makes more than a hundred thousand objects while it is loaded, none of them garbage.
        with collections_paused():
            module = importlib.import_module(modules[name])
        return getattr(module, name)

    return get
