"""The file of a drawing, by the suffix of its name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from caffecompat.draw.arrays.array_views import ArrayView
from caffecompat.draw.diagram import Diagram
from caffecompat.draw.dot import DotOptions, dot_text
from caffecompat.draw.html_page import html_page
from caffecompat.draw.rendering import PICTURES, render
from caffecompat.errors import FileProblem, FormatError
from caffecompat.output_files import atomic_write, check_target

PAGES = (".html", ".htm")
TEXTS = (".dot", ".gv")
_PICTURES = tuple(f".{kind}" for kind in PICTURES)


def check_suffix(target: str) -> None:
    """Refuses a target that is neither a page nor a picture nor a text of graphviz.

    Raises:
        FormatError: by its suffix; the message lists those that there are.
    """
    if Path(target).suffix.lower() not in (*PAGES, *TEXTS, *_PICTURES):
        raise FormatError(f"{target}: the name must end in .html, .svg, .png, .pdf or .dot")


def check_picture_suffix(target: str) -> None:
    """As :func:`check_suffix`, but without pages."""
    if Path(target).suffix.lower() not in (*TEXTS, *_PICTURES):
        raise FormatError(
            f"{target}: the name must end in .png, .svg, .pdf or .dot; caffecompat draw writes "
            ".html too"
        )


def check_new(target: str, replace: bool) -> None:
    """Refuses to replace a file, unless the user wants it.

    Raises:
        FileProblem: there is something of this name, or its folder is missing.
    """
    check_target(target)
    if not replace and os.path.lexists(target):
        raise FileProblem(
            f"{target}: already exists; replace it with --force, or name another target"
        )


def write_page(
    target: str,
    diagram: Diagram,
    views: Mapping[int, Sequence[ArrayView]],
    facts: Mapping[str, str],
) -> None:
    """Writes the interactive page.

    Args:
        target: the file.
        diagram: the net.
        views: arrays to show for layers, by position.
        facts: further lines of the overview.

    Raises:
        FileProblem: the file cannot be written.
    """
    content = html_page(diagram, views, facts)
    with atomic_write(target) as file:
        file.write(content)


def write_picture(target: str, diagram: Diagram, options: DotOptions) -> None:
    """Writes a picture by graphviz, or its text.

    Raises:
        MissingExtra, CaffeError: graphviz is not installed, or fails; nothing was written.
        FileProblem: the file cannot be written.
    """
    text = dot_text(diagram, options)
    is_text = Path(target).suffix.lower() in TEXTS
    content = text.encode("utf-8", "replace") if is_text else render(text, target)
    with atomic_write(target) as file:
        file.write(content)
