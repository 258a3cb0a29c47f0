"""The registry of graph passes: rewrites of a definition together with its weights.

A file of ``passes/`` that ``caffecompat convert`` offers as a flag looks like this::

    HELP = "fold BatchNorm and Scale into the layer before them"

    @graph_passes.register("fold-batch-norm")
    def apply(model: CaffeModel) -> CaffeModel: ...

The flag is the file's name, ``--fold-batch-norm`` for ``fold_batch_norm.py``, and so is the name
that the pass is registered under. A file without ``HELP`` is no flag.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.registry import Registry

if TYPE_CHECKING:
    from caffecompat.export.model import CaffeModel

graph_passes: Registry[Callable[[CaffeModel], CaffeModel]] = Registry(
    "graph pass", "caffecompat.export.passes"
)
"""Passes by name: a model in, another model out; what went in is not changed.

A pass raises ExportError if the model has a part that it must change and cannot.
"""


def pass_help() -> dict[str, str]:
    """The names of the passes that are flags, and their help, in the order of names.

    The files are read as text: ``--help`` imports neither torch nor numpy.
    """
    found = {}
    for path in sorted((Path(__file__).parent / "passes").glob("*.py")):
        text = _help_of(ast.parse(path.read_text("utf-8")))
        if text is not None:
            found[path.stem.replace("_", "-")] = text
    return found


def _help_of(tree: ast.Module) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["HELP"]:
            return str(ast.literal_eval(node.value))
    return None
