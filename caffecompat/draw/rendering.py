"""Pictures by graphviz: SVG, PNG and PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caffecompat.errors import CaffeError, FormatError, needing_extra

PICTURES = ("svg", "png", "pdf", "jpg", "gif", "ps")
_NO_PROGRAM = (
    "{path}: graphviz's program dot is not installed; install it (apt-get install graphviz, brew "
    "install graphviz, conda install graphviz), or name a target that needs none: {stem}.html, "
    "{stem}.dot"
)
_LAST_LINE_LENGTH = 300


def render(text: str, target: str) -> bytes:
    """A picture of the text of a graph, in the format of the target's suffix.

    Raises:
        MissingExtra: the library graphviz is not installed.
        CaffeError: its program is not, or fails.
        FormatError: no picture has this suffix.
    """
    kind = Path(target).suffix.removeprefix(".").lower()
    if kind not in PICTURES:
        raise FormatError(f"{target}: the name must end in .html, .svg, .png, .pdf or .dot")
    graphviz = _library(target)
    try:
        found: bytes = graphviz.Source(text).pipe(format=kind)
    except graphviz.ExecutableNotFound as error:
        stem = Path(target).with_suffix("")
        raise CaffeError(_NO_PROGRAM.format(path=target, stem=stem)) from error
    except graphviz.CalledProcessError as error:
        said = (error.stderr or b"").decode("utf-8", "replace").strip() or str(error)
        last = said.splitlines()[-1][:_LAST_LINE_LENGTH]
        raise CaffeError(
            f"{target}: graphviz's program dot failed: {last}; an .html target does without it"
        ) from error
    return found


def _library(target: str) -> Any:
    with needing_extra(f"{target}: a picture by graphviz", "draw"):
        import graphviz
    return graphviz
