"""What a text is read as, by the fast reader and one field after another."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from caffecompat.errors import CaffeError
from caffecompat.proto.text import ordinary, scalars
from caffecompat.proto.text import parser as careful
from caffecompat.proto.text.parser import parse_text


@dataclass(frozen=True)
class Read:
    """What parsing a text yields: message, source, or error."""

    message: bytes
    lines: dict[str, list[int]]
    fields: dict[str, list[int]]
    warnings: tuple[str, ...]
    mistakes: str


def read(text: str, lenient: bool) -> Read:
    try:
        result, source = parse_text(text, "NetParameter", "net", lenient)
    except CaffeError as error:
        return Read(b"", {}, {}, (), str(error))
    return Read(
        result.SerializePartialToString(deterministic=True),
        {name: list(lines) for name, lines in source.lines.items()},
        {name: list(lines) for name, lines in source.fields.items() if len(lines)},
        source.warnings,
        "",
    )


def read_carefully(text: str, lenient: bool) -> Read:
    """Each field one by one, each string by itself and each escape sequence too."""
    always, never = re.compile(b""), re.compile("(?!)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(careful, "read_ordinary", lambda state, base: None)
        patch.setattr(ordinary, "read_list_run", lambda text, at, target, message: at)
        patch.setattr(scalars, "_JOINED", never)
        patch.setattr(scalars, "_RARE_ESCAPE", always)
        return read(text, lenient)
