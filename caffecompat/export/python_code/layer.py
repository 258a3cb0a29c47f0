"""One layer that becomes Python source, and the registry of the functions that write layers.

Names of files are never written into code as they are: :func:`identifier` closes the alphabet of
variables, and all other names are string literals made by ``ascii``.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isinf, isnan
from typing import Any, NoReturn, TypeAlias

from caffecompat.errors import ExportError
from caffecompat.export.free_names import free_name
from caffecompat.layers import Shape
from caffecompat.net.parameters.state_dict_names import module_name
from caffecompat.registry import Registry

INDENT = "    "
LINE_LENGTH = 88


@dataclass
class Source:
    """What was written so far.

    Attributes:
        modules: lines of ``__init__``.
        steps: lines of ``forward``.
        needed: names of definitions that the source must bring along.
    """

    modules: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class CodeLayer:
    """A layer that is being written.

    Attributes:
        name: Caffe's name of the layer.
        layer: the layer after ``setup``, which has its settings.
        bottoms, tops: variables.
        shapes: the shapes of the bottoms.
        source: the source that lines are added to.
    """

    name: str
    layer: Any
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[Shape, ...]
    source: Source

    @property
    def x(self) -> str:
        """The variable of the first bottom."""
        return self.bottoms[0]

    def write(self, function: str, *arguments: str) -> None:
        """Adds the line that calls a function for the tops."""
        self.source.steps += call(f"{', '.join(self.tops)} = {function}", arguments, 2)

    def assign(self, expression: str) -> None:
        """Adds the line that gives the top its value."""
        self.source.steps.append(f"{INDENT * 2}{', '.join(self.tops)} = {expression}")

    def module(self, made_by: str, *arguments: str) -> str:
        """Adds a submodule under the layer's name; the expression that stands for it."""
        key = module_name(self.name)
        if is_plain(key):
            self.source.modules += call(f"self.{key} = {made_by}", arguments, 2)
            return f"self.{key}"
        inner = f"{made_by}({', '.join(arguments)})"
        self.source.modules += call("self.add_module", (ascii(key), inner), 2)
        return f"self.get_submodule({key!a})"

    def need(self, definition: str) -> str:
        """Has the source bring a definition along; its name."""
        self.source.needed.add(definition)
        return definition

    def need_size(self, bottom: int = 0) -> None:
        """Has the source refuse a bottom with other extents than the definition's from axis 2 on.

        The lines of the layer would compute something else with them.
        """
        size = tuple(self.shapes[bottom][2:])
        place = f"layer {self.name!r} ({self.layer.type})"
        words = f"{place}: its lines are for a bottom {bottom} of {' x '.join(map(str, size))}; "
        words += "for another size convert a definition whose inputs have it"
        self.source.steps += [
            f"{INDENT * 2}if {self.bottoms[bottom]}.shape[2:] != {size}:",
            *call("raise ValueError", [ascii(words)], 3),
        ]

    def refuse(self, why: str) -> NoReturn:
        raise ExportError(f"layer {self.name!r} ({self.layer.type}): {why}")


Writer: TypeAlias = Callable[[CodeLayer], None]

writers: Registry[Writer] = Registry(
    "layer type that Python source knows", "caffecompat.export.python_code.layers"
)
"""Functions that write a layer, by layer type; a new file needs no other change."""


def call(function: str, arguments: Sequence[str], depth: int) -> list[str]:
    """The lines of a call, broken as formatters do where it is too long."""
    before = INDENT * depth
    line = f"{before}{function}({', '.join(arguments)})"
    if len(line) <= LINE_LENGTH:
        return [line]
    inner = f"{before}{INDENT}{', '.join(arguments)}"
    if len(inner) <= LINE_LENGTH:
        return [f"{before}{function}(", inner, f"{before})"]
    return [
        f"{before}{function}(",
        *(f"{before}{INDENT}{argument}," for argument in arguments),
        f"{before})",
    ]


def is_plain(name: str) -> bool:
    """Whether a name can be written after ``self.``."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None and not keyword.iskeyword(name)


def identifier(name: str, taken: set[str]) -> str:
    """A new variable with the ASCII letters and digits of a name."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "blob"
    if not is_plain(plain) or plain in RESERVED:
        plain = f"blob_{plain}"
    found = free_name(plain, taken)
    taken.add(found)
    return found


# Names with a meaning in the source.
RESERVED = frozenset({"self", "torch", "nn", "F", *dir(builtins), *keyword.softkwlist})


def number(value: float) -> str:
    """A number of single precision, in as few digits as tell it."""
    if isnan(value):
        return "torch.nan"
    if isinf(value):
        return "torch.inf" if value > 0 else "-torch.inf"
    return f"{value:.9g}"


def pair(extents: Sequence[int]) -> str:
    """Equal extents as one number, others as a tuple."""
    return str(extents[0]) if len(set(extents)) == 1 else str(tuple(extents))


def options(**values: tuple[Any, Any]) -> list[str]:
    """Keyword arguments whose value is not the default: ``name=(value, default)``."""
    return [f"{name}={value}" for name, (value, default) in values.items() if value != default]
