"""Prints messages as prototxt text, in the style of BVLC Caffe."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from caffecompat.proto.descriptors import Field, layout
from caffecompat.proto.schema import Message

_SMALLEST_NORMAL = 2.0**-126
_NAMED_ESCAPES = {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    ord('"'): '\\"',
    ord("'"): "\\'",
    ord("\\"): "\\\\",
}
_ESCAPES = [
    _NAMED_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}")
    for byte in range(256)
]


def format_text(message: Message, format_float: Callable[[float], str] | None = None) -> str:
    """The message as prototxt text: set fields in order of number, two blanks per level.

    As in protobuf 3.21, which BVLC Caffe uses, a float prints with six significant digits if
    these give the same float32 again, else with nine (15 and 17 for double); bytes outside ASCII
    print as octal escapes. Fields that the schema does not know are left out.

    Args:
        message: any message of the schema.
        format_float: writes float and double values in another way than Caffe.
    """
    lines: list[str] = []
    _format_message(message, "", lines, format_float)
    return "".join(lines)


def _format_message(
    message: Message, indent: str, lines: list[str], format_float: Callable[[float], str] | None
) -> None:
    fields = layout(message.DESCRIPTOR).fields
    for entry, value in message.ListFields():
        target = fields[entry.name]
        values = value if target.repeated else (value,)
        if target.kind == "message":
            for child in values:
                lines.append(f"{indent}{target.name} {{\n")
                _format_message(child, indent + "  ", lines, format_float)
                lines.append(f"{indent}}}\n")
        elif format_float is not None and target.kind in ("float", "double"):
            lines.extend(f"{indent}{target.name}: {format_float(one)}\n" for one in values)
        else:
            lines.extend(f"{indent}{target.name}: {_format_value(target, one)}\n" for one in values)


def _format_value(target: Field, value: Any) -> str:
    if target.kind == "enum":
        return next(name for name, number in target.numbers.items() if number == value)
    if target.kind == "float":
        return format_float32(value)
    if target.kind == "double":
        return format_double(value)
    if target.kind == "bool":
        return "true" if value else "false"
    if target.kind in ("string", "bytes"):
        # A binary file may hold names that are not UTF-8; protobuf returns them as bytes.
        raw = value.encode("utf-8") if isinstance(value, str) else value
        if target.raw and isinstance(value, str) and "\n" not in value:
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return '"' + "".join([_ESCAPES[byte] for byte in raw]) + '"'
    return str(value)


def format_float32(value: float) -> str:
    """The shortest of 6 or 9 digits that is read as this float of 32 bits."""
    short = f"{value:.6g}"
    # C's strtof reports subnormal numbers as out of range, so Caffe never trusts the short form.
    subnormal = 0 < abs(value) < _SMALLEST_NORMAL
    return short if not subnormal and _float32(float(short)) == value else f"{value:.9g}"


def _float32(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:  # six digits of the largest floats round up beyond the range
        return float("inf")


def format_double(value: float) -> str:
    """The shortest of 15 or 17 digits that is read as this float of 64 bits."""
    short = f"{value:.15g}"
    return short if float(short) == value else f"{value:.17g}"
