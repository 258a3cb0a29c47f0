"""Which modules define a layer type, told from their text.

There are about two hundred modules; importing all of them takes longer than most commands that
describe a net need for everything else.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_REGISTRATION = re.compile(r"""^@register\(\s*"([^"]+)\"""", re.MULTILINE)

# The decorator of caffecompat.layers._python_equivalent registers under this name.
_EQUIVALENT = re.compile(r"^@register_python_layer\(", re.MULTILINE)
_EQUIVALENTS_TYPE = "Python"


@cache
def modules_by_type(package: str) -> Mapping[str, list[str]]:
    """The names of a package's modules that register each layer type.

    Empty for a package that is installed without source files.
    """
    found: dict[str, list[str]] = {}
    for folder in importlib.import_module(package).__path__:
        for path in sorted(Path(folder).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            text = path.read_text("utf-8")
            names = set(_REGISTRATION.findall(text))
            if _EQUIVALENT.search(text):
                names.add(_EQUIVALENTS_TYPE)
            for name in names:
                found.setdefault(name, []).append(".".join((package, *parts)))
    return found
