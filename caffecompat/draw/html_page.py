"""The interactive page: one HTML file that needs no other file and no network.

Names from the definition reach the page only as JSON inside script elements that are no programs.
``<``, ``>`` and ``&`` are written as escapes of JSON there, so that no name can end an element. The
page's own program makes text nodes of names, never HTML. A content security policy allows this one
program by its hash, the pictures in the file, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from caffecompat.draw.arrays.array_views import ArrayView
from caffecompat.draw.diagram import Diagram
from caffecompat.draw.page_data import net_values, view_values

# In the order in which they are joined; later ones use names of earlier ones.
_PROGRAM = (
    "model.js",
    "ordering.js",
    "layout.js",
    "view.js",
    "painting.js",
    "charts.js",
    "panel.js",
    "search.js",
    "main.js",
)
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def html_page(
    diagram: Diagram,
    views: Mapping[int, Sequence[ArrayView]] | None = None,
    facts: Mapping[str, str] | None = None,
) -> bytes:
    """The page of a net.

    Args:
        diagram: the net.
        views: arrays to show for layers, by position.
        facts: further lines for the overview, name -> text.
    """
    program = "\n".join(_part(name) for name in _PROGRAM)
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    values = [_json_element("net", net_values(diagram, facts or {}))]
    values += [
        _json_element(f"arrays-{position}", view_values(arrays))
        for position, arrays in sorted((views or {}).items())
    ]
    parts = {
        "title": html.escape(f"{diagram.title} – net"),
        "policy": html.escape(
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        "style": _part("page.css"),
        "values": "\n".join(values),
        "program": program,
    }
    return _filled(_part("page.html"), parts).encode("utf-8", "replace")


def _part(name: str) -> str:
    return (files("caffecompat.draw") / "page" / name).read_text("utf-8")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its ``{{name}}`` replaced; what is put in is not looked at again."""
    pieces = []
    for piece in template.split("{{"):
        name, mark, rest = piece.partition("}}")
        pieces.append(parts[name] + rest if mark else piece)
    return "".join(pieces)


def _json_element(identifier: str, values: Any) -> str:
    return f'<script type="application/json" id="{identifier}">{safe_json(values)}</script>'


def safe_json(values: Any) -> str:
    """JSON in ASCII that cannot end the script element around it, nor begin a comment in it.

    Numbers that are not finite have no JSON; statistics hold none.
    """
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return text
