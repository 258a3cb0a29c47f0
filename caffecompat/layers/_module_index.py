"""Which modules define a layer type, told from their text.

There are about two hundred modules; importing all of them takes longer than most commands that
describe a net need for everything else.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

# Most files have neither, which a search without a regular expression tells in no time.
_DECORATOR = b"\n@register"
_REGISTRATION = re.compile(rb"""\n@register\(\s*"([^"]+)\"""")

# The decorator of caffecompat.layers._python_equivalent registers under this name.
_EQUIVALENT = b"\n@register_python_layer("
_EQUIVALENTS_TYPE = "Python"


@cache
def modules_by_type(package: str) -> Mapping[str, list[str]]:
    """The names of a package's modules that register each layer type.

    Empty for a package that is installed without source files.
    """
    found: dict[str, list[str]] = {}
    for folder in importlib.import_module(package).__path__:
        for path in sorted(_source_files(folder)):
            with open(path, "rb") as file:
                text = file.read()
            if _DECORATOR not in text:
                continue
            parts = Path(path).relative_to(folder).with_suffix("").parts
            names = {name.decode() for name in _REGISTRATION.findall(text)}
            if _EQUIVALENT in text:
                names.add(_EQUIVALENTS_TYPE)
            for name in names:
                found.setdefault(name, []).append(".".join((package, *parts)))
    return found


def _source_files(folder: str) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in names if name.endswith(".py"))
