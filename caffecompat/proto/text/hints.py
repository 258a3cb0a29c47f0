"""Hints on names that the schema does not have, for the end of an error message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from caffecompat.errors import suggestion
from caffecompat.proto.descriptors import Layout, layout
from caffecompat.proto.fork_meanings import NO_FORK, meaning_of
from caffecompat.proto.layer_types import V1_TYPES

# A longer list of known names hides the sentence that it should help.
_MOST_NAMES_LISTED = 12
# Names of this ending are alike by it alone, so only what stands before it is compared, strictly.
_ENDING = "_param"
_LIKENESS = 0.75
_LENIENT = " Remove it; summary, graph, train, test and time pass over it with --lenient"


def unknown_field_hint(name: str, enclosing: Sequence[tuple[str, Layout]]) -> str:
    """What to do about the unknown field ``name``.

    Looks, in this order, at the messages around it (a closing brace is missing), at the messages
    inside (the field stands one level too high), at similar spellings.

    Args:
        name: the field name as written.
        enclosing: label and layout of the messages around the field, outermost first.
    """
    here = enclosing[-1][1]
    for label, outer in reversed(enclosing[:-1]):
        if name in outer.fields:
            inner = enclosing[-1][0]
            return f"; it belongs to {label}: is the '}}' that closes {inner} missing before it?"
    meaning = meaning_of(here.name, name)
    if meaning is not None and meaning.fork != NO_FORK:
        return f"; {meaning.sentence}; not supported.{_LENIENT}"
    inside = [
        entry.name
        for entry in here.fields.values()
        if entry.kind == "message"
        and name in layout(entry.descriptor).fields
        and not layout(entry.descriptor).is_layer
    ]
    if inside:
        shown = " or ".join(inside) if len(inside) <= 2 else f"one of {', '.join(inside)}"
        return f"; it belongs inside {shown}"
    if name.endswith(_ENDING):
        return _parameter_hint(name, here.fields) or _foreign("field")
    return unknown_name_hint(name, here.fields, "field")


def unknown_name_hint(name: str, known: Iterable[str], what: str = "value") -> str:
    """The nearest of the names, or all if they are few, or that another Caffe may have it."""
    names = tuple(known)
    hint = suggestion(name, names)
    if hint.startswith("; known:") and len(names) > _MOST_NAMES_LISTED:
        return _foreign(what)
    return hint


def not_a_string_hint(field: str, text: str) -> str:
    """What to write instead of ``text`` where a string field lacks its quotes."""
    if field == "type" and V1_TYPES.get(text):
        return f'; such names are for the old layers {{ }}, write type: "{V1_TYPES[text]}"'
    return f'; write {field}: "{text}"'


def _parameter_hint(name: str, known: Iterable[str]) -> str:
    stems = [other.removesuffix(_ENDING) for other in known if other.endswith(_ENDING)]
    near = difflib.get_close_matches(name.removesuffix(_ENDING), stems, n=1, cutoff=_LIKENESS)
    return f"; did you mean {near[0] + _ENDING!r}?" if near else ""


def _foreign(what: str) -> str:
    way_out = _LENIENT if what == "field" else ""
    return f"; a {what} of another Caffe version?{way_out}"
