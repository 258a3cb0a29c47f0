#!/usr/bin/env python3
"""Write docs/fork-fields.md: every known field of forks, and what becomes of it here.

The rows are those of caffecompat/proto/fork_meanings.tsv; whether a field is supported comes from
the layer types, learning-rate policies and fillers themselves::

    python tools/fork_fields_page.py            # writes the page
    python tools/fork_fields_page.py --check    # exit code 1 when it is stale
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from caffecompat.layers import catalogue  # noqa: E402
from caffecompat.layers.fillers import FORK_FIELDS  # noqa: E402
from caffecompat.proto.fork_meanings import Meaning, meanings  # noqa: E402
from caffecompat.proto.schema import new  # noqa: E402
from caffecompat.solver.optim.policies import policies  # noqa: E402
from caffecompat.solver.setup import settings  # noqa: E402

PAGE = REPOSITORY / "docs" / "fork-fields.md"
NO_EFFECT, SUPPORTED, UNSUPPORTED = "no effect", "supported", "not supported"

# Supported by no layer type, policy or filler: extensions of ours under the same names, and layers
# for a phase that never comes.
ELSEWHERE = {
    ("TransformationParameter", "img_rand_resize_lower"),
    ("TransformationParameter", "img_rand_resize_upper"),
    ("NetStateRule", "phase=RUN"),
    ("V1LayerParameter", "type=INPUT"),
    ("V1LayerParameter", "input_param"),
}

HEAD = (
    "# Fields of Caffe's forks\n\n"
    "What forks of Caffe add to Caffe's messages, as far as published definitions hold it, and "
    "what becomes of it here. [Dialects](dialects.md) says how such fields are read. A field is\n\n"
    "- **{none}** if it does not change values: it is accepted in silence;\n"
    "- **{yes}** if a layer type, a learning-rate policy or a filler supports it; other layer "
    "types refuse it;\n"
    "- **{no}** otherwise. A layer that sets it is refused with the sentence of this table; "
    "`--lenient` ignores a field, but no value of an enum. In a net it is noted, in a solver "
    "refused.\n\n"
    "`engine` has no effect in any message, whatever its value. `tools/fork_fields_page.py` writes "
    "the table from `caffecompat/proto/fork_meanings.tsv` and from what layer types, policies and "
    "fillers say of themselves.\n\n"
    "| message | field or value | here | whose | what it does |\n"
    "| --- | --- | --- | --- | --- |\n"
)


@cache
def _supported_paths() -> frozenset[str]:
    classes = [catalogue.find(name) for name in catalogue]
    return frozenset(path for layer in classes for path in layer.fork_fields)


def _is_supported(row: Meaning) -> bool:
    if (row.message, row.field) in ELSEWHERE:
        return True
    if row.types:
        return any(catalogue.definitions(name) for name in row.types)
    if row.message == "SolverParameter":
        known = set(settings.FORK_FIELDS)
        for name in policies:
            known.update(policies.find(name).fork_fields)
        return row.field in known
    if row.message == "FillerParameter":
        return row.field in FORK_FIELDS
    field, _, value = row.field.partition("=")
    layer = new("LayerParameter").DESCRIPTOR
    holders = [
        entry.name
        for entry in layer.fields
        if entry.message_type is not None and entry.message_type.name == row.message
    ]
    paths = [f"{holder}.{field}" for holder in holders]
    if row.message == "LayerParameter":
        paths = [field]
    ending = f": {value}" if value else ""
    return any(f"{path}{ending}" in _supported_paths() for path in paths)


def status(row: Meaning) -> str:
    """What becomes of a field: one of the three words of the page."""
    if row.effect == "none":
        return NO_EFFECT
    return SUPPORTED if _is_supported(row) else UNSUPPORTED


def page() -> str:
    """The text of the page."""
    rows = []
    for row in meanings().values():
        what = f"settings of {row.meaning}" if row.types else row.meaning
        field = row.field.replace("=", ": ")
        rows.append(f"| `{row.message}` | `{field}` | {status(row)} | {row.fork} | {what} |")
    head = HEAD.format(none=NO_EFFECT, yes=SUPPORTED, no=UNSUPPORTED)
    return head + "\n".join(sorted(rows)) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare, write nothing")
    text = page()
    if parser.parse_args().check:
        fresh = PAGE.exists() and PAGE.read_text() == text
        print("up to date" if fresh else f"{PAGE} is stale: run tools/fork_fields_page.py")
        return 0 if fresh else 1
    PAGE.write_text(text)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
