"""Comparison of two net definitions, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from caffecompat.proto.text.printer import format_double, format_float32

MAX_SHOWN_CHARACTERS = 60


def compare_nets(one: Any, other: Any) -> list[str]:
    """One sentence per difference between two upgraded NetParameter messages; empty if equal.

    Layers are matched by name (the second of a name with the second). A field with its default
    value equals an absent one. The names of the nets are not compared.
    """
    ours, theirs = _layers(one), _layers(other)
    lines = [f"{_who(ours[key])} is in the first only" for key in ours if key not in theirs]
    lines += [f"{_who(theirs[key])} is in the second only" for key in theirs if key not in ours]
    for key, layer in ours.items():
        if key in theirs:
            who = _who(layer)
            lines += [f"{who}: {text}" for text in _differences(layer, theirs[key], "")]
    common = [key for key in ours if key in theirs]
    if common != [key for key in theirs if key in ours]:
        lines.append("the layers that both have are in another order")
    skipped = {"layer", "name"}
    lines += [f"net: {text}" for text in _differences(one, other, "", skipped)]
    return lines


def compare_solvers(one: Any, other: Any) -> list[str]:
    """One sentence per difference between two upgraded SolverParameter messages.

    A field with its default value equals an absent one. A net inside of the solver is compared
    field by field, layers by their places.
    """
    return list(_differences(one, other, ""))


def _layers(net: Any) -> dict[tuple[str, int], Any]:
    """The layers by name and occurrence of the name, from 0 on."""
    found: dict[tuple[str, int], Any] = {}
    seen: dict[str, int] = {}
    for layer in net.layer:
        occurrence = seen.get(layer.name, 0)
        seen[layer.name] = occurrence + 1
        found[layer.name, occurrence] = layer
    return found


def _who(layer: Any) -> str:
    return f"layer {layer.name!r} ({layer.type})"


def _differences(
    one: Any, other: Any, prefix: str, skipped: set[str] | frozenset[str] = frozenset()
) -> Iterator[str]:
    """Yields a clause per difference: the dotted field name and both values."""
    for kind in one.DESCRIPTOR.fields:
        if kind.name in skipped:
            continue
        a, b, name = getattr(one, kind.name), getattr(other, kind.name), prefix + kind.name
        if kind.message_type is None:
            if _plain(a) != _plain(b):
                yield f"{name} is {_show(kind, a)} in the first, {_show(kind, b)} in the second"
        elif not _repeated(a):
            if one.HasField(kind.name) or other.HasField(kind.name):
                yield from _differences(a, b, f"{name}.")
        else:
            if len(a) != len(b):
                yield f"{name} is given {len(a)} times in the first, {len(b)} in the second"
            for index, (x, y) in enumerate(zip(a, b, strict=False)):
                yield from _differences(x, y, f"{name}[{index}].")


def _repeated(value: Any) -> bool:
    return not hasattr(value, "DESCRIPTOR")


def _plain(value: Any) -> Any:
    """A comparable form of a value: lists for repeated fields, and NaN equal to itself."""
    if isinstance(value, (str, bytes, int, bool)):
        return value
    if isinstance(value, float):
        return repr(value)
    return [_plain(item) for item in value]


def _show(kind: Any, value: Any) -> str:
    if isinstance(value, (str, bytes)):
        text = repr(value)
    elif isinstance(value, (bool, int, float)):
        text = _scalar(kind, value)
    else:
        text = "[" + ", ".join(_scalar(kind, item) for item in value) + "]"
    if len(text) <= MAX_SHOWN_CHARACTERS:
        return text
    return text[: MAX_SHOWN_CHARACTERS - 3] + "..."


def _scalar(kind: Any, value: Any) -> str:
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # As the file has it: 0.01, not the 0.0099999998 that a float of 32 bits is.
        return format_float32(value) if kind.type == kind.TYPE_FLOAT else format_double(value)
    if kind.enum_type is not None and value in kind.enum_type.values_by_number:
        return str(kind.enum_type.values_by_number[value].name)
    return str(value)
