"""``caffecompat layers``: the catalogue, and one type's fields and description."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caffecompat.layers import Layer

HELP = "list the layer types, or show one type's parameters, defaults and description"
EXAMPLE = """  caffecompat layers
  caffecompat layers Pooling"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", nargs="?", help="layer type, e.g. Pooling")


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.layers import catalogue

    if arguments.type:
        found = catalogue.definitions(arguments.type) or [catalogue.find(arguments.type)]
        print("\n\n".join(_page(layer) for layer in found))
        return 0
    width = max(len(name) for name in catalogue)
    for name in catalogue:
        print(f"{name:<{width}}  {_first_sentence(catalogue.find(name))}")
    print(f"{len(list(catalogue))} layer types; caffecompat layers TYPE describes one")
    return 0


def _first_sentence(layer: type[Layer]) -> str:
    return " ".join(_plain(inspect.getdoc(layer)).split("\n\n")[0].split())


def _plain(docstring: str | None) -> str:
    """Without the marks of reStructuredText."""
    text = re.sub(r"(?m)^::\n\n", "", docstring or "")
    return re.sub(r":\w+:`([^`]+)`", r"\1", text).replace("``", "")


def _descriptions(layer: type[Layer]) -> list[str]:
    """The type's, and those of the classes that it refers to."""
    own = inspect.getdoc(layer) or ""
    beside = vars(sys.modules.get(layer.__module__, object))
    texts = [_plain(own)]
    for name in dict.fromkeys(re.findall(r":class:`(\w+)`", own)):
        if name in beside:
            described = _plain(inspect.getdoc(beside[name])).partition("\n\nArgs:")[0]
            texts.append(f"{name}: {described}")
    return texts


def _page(layer: type[Layer]) -> str:
    lines = [layer.type, "=" * len(layer.type), ""]
    if layer.fork:
        lines += [f"A layer type of forks of Caffe: {layer.fork}.", ""]
    for text in _descriptions(layer):
        lines += [text, ""]
    lines.append(f"bottoms: {layer.bottoms}; tops: {layer.tops}")
    lines.append(f"parameter blobs: {', '.join(layer.parameters) or 'none'}")
    if layer.is_loss:
        lines.append("loss: the first top has loss weight 1 unless loss_weight says otherwise")
    lines.append(f"may work in place: {'yes' if layer.in_place else 'no'}")
    for field in layer.settings():
        lines += ["", *_fields(field, layer.fork_fields)]
    return "\n".join(lines)


def _fields(field: str, known: Sequence[str]) -> list[str]:
    """The fields of one message of LayerParameter, with types and defaults from the schema.

    Fields of forks are shown only if the layer type supports them.
    """
    from caffecompat.proto.schema import FORK_NUMBERS, new

    message = getattr(new("LayerParameter"), field)
    rows = [f"{field} {{"]
    for descriptor in message.DESCRIPTOR.fields:
        if descriptor.number in FORK_NUMBERS and f"{field}.{descriptor.name}" not in known:
            continue
        rows.append(f"  {descriptor.name}: {_type(descriptor)}{_default(message, descriptor)}")
    return [*rows, "}"]


def _type(descriptor: Any) -> str:
    from caffecompat.proto.schema import FORK_NUMBERS

    if descriptor.enum_type is not None:
        values = descriptor.enum_type.values
        name = " | ".join(v.name for v in values if v.number not in FORK_NUMBERS)
    elif descriptor.message_type is not None:
        name = descriptor.message_type.name
    else:
        names = {
            value: key.removeprefix("TYPE_").lower()
            for key, value in vars(type(descriptor)).items()
            if key.startswith("TYPE_")
        }
        name = names[descriptor.type]
    return name


def _default(message: Any, descriptor: Any) -> str:
    """The default as in a prototxt; repeated fields and messages have none."""
    value = getattr(message, descriptor.name)
    if descriptor.message_type is not None:
        return ""
    if not isinstance(value, (bool, int, float, str, bytes)):
        return ", any number of times"
    if not descriptor.has_default_value:
        return ""
    if descriptor.enum_type is not None:
        return f" = {descriptor.enum_type.values_by_number[value].name}"
    if isinstance(value, bool):
        return f" = {str(value).lower()}"
    return f" = {value!r}" if isinstance(value, (str, bytes)) else f" = {value:g}"
