"""Recognises files of a wrong kind, for the error messages that refuse them."""

from __future__ import annotations

import re
from collections.abc import Set

from caffecompat.proto.schema import message_class

_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive (a PyTorch or NumPy file, or a download)"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x80\x02", "a Python pickle"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"%PDF", "a PDF document"),
)
_PEEK = 4096

# What a net and a solver have at the start of a line, and no other prototxt has.
_LAYER = re.compile(r"(?m)^[ \t]*layers?\s*(:\s*)?[{<]")
_OF_NET = re.compile(r"(?m)^[ \t]*(input\s*:|input_(dim|shape))")
_OF_SOLVER = re.compile(
    r"(?m)^[ \t]*(base_lr|lr_policy|max_iter|solver_mode|solver_type|snapshot_prefix|test_iter"
    r"|(train_|test_)?net)\s*:"
)
_NET_OF_SOLVER = re.compile(r"(?m)^[ \t]*(train_|test_)?net_param\s*(:\s*)?[{<]")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


def wrong_text(text: str) -> str | None:
    """The kind of file that ``text`` comes from, if it is recognised and no prototxt; else None."""
    start = text[:200].lstrip("\ufeff \t\r\n").lower()
    if start.startswith("version https://git-lfs"):
        return "this is a Git LFS pointer, not the file itself (run: git lfs pull)"
    if start.startswith(("<!doctype", "<html", "<?xml", "<head")):
        return "this is a web page, not the file itself (download the raw file)"
    if start.startswith(("{", "%yaml")):
        return "this is JSON or YAML"
    return None


def prototxt_kind(head: str) -> str | None:
    """``"SolverParameter"`` or ``"NetParameter"``, as the start of a prototxt looks; or None.

    A solver may hold its net, with layers.
    """
    has_layer = _LAYER.search(head) is not None
    if _OF_SOLVER.search(head) and (_NET_OF_SOLVER.search(head) or not has_layer):
        return "SolverParameter"
    return "NetParameter" if has_layer or _OF_NET.search(head) else None


def wrong_bytes(data: bytes) -> str | None:
    """The kind of file that the first bytes show, if they are not text; else None."""
    if not data:
        return "the file is empty"
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return f"this is {kind}"
    if looks_like_text(data):
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "this is UTF-16 text; save it as UTF-8"
    return (
        "this is a binary file (perhaps a .caffemodel or .binaryproto; caffecompat inspect tells)"
    )


def looks_like_text(data: bytes) -> bool:
    """Whether the first bytes hold none of the control characters that text never has."""
    return _CONTROL.search(data, 0, _PEEK) is None


def mistaken_kind(expected: str, names: Set[str]) -> str | None:
    """A sentence if a solver was expected and the fields are those of a net, or the reverse.

    None otherwise.

    Args:
        expected: the message that was expected, ``"NetParameter"`` or ``"SolverParameter"``.
        names: the field names at the top level of the text.
    """
    net = set(message_class("NetParameter").DESCRIPTOR.fields_by_name)
    solver = set(message_class("SolverParameter").DESCRIPTOR.fields_by_name)
    if expected == "NetParameter" and not names & {"layer", "layers"}:
        found = sorted(names & (solver - net))
        if found:
            shown = ", ".join(found[:3])
            return (
                f"this looks like a solver ({shown}), a net was expected; give the net that it "
                "names, or give the solver to train --solver or upgrade-solver"
            )
    if expected == "SolverParameter" and names & {"layer", "layers"} and not names & (solver - net):
        return (
            "this looks like a net (layer), a solver was expected; give a solver that names it in "
            "its net field, or give the net to summary, upgrade-net or test --model"
        )
    return None
