"""No text of a file reaches Python's interpreter or a shell: the places that could are known."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.modules import PACKAGE, on_every_module

# Calls that run what they are given, or that may (unpickling, importing).
RUNS_CODE = {
    "__import__",
    "compile",
    "eval",
    "exec",
    "import_module",
    "importlib.import_module",
    "os.popen",
    "os.system",
    "pickle.load",
    "pickle.loads",
    "runpy.run_path",
}
# Path -> why its call is safe.
ALLOWED = {
    "__init__.py": "the name of one module, written there",
    "cli/main.py": "names of the package's own verbs",
    "data/backends/leveldb.py": "names of two libraries, written there",
    "export/engines/python_source.py": "only with --allow-python, or what convert has written",
    "first_use.py": "names of modules that stand in the package's own tables",
    "layers/_catalogue.py": "names of the package's own modules, found by layer type",
    "layers/_module_index.py": "the name of the catalogue's package",
    "layers/_pycaffe_objects.py": "the name of one module, written there",
    "layers/python.py": "only with allow_python, which says that the net's code is to run",
    "pycaffe/__init__.py": "names of the package's own modules",
    "pycaffe/detector.py": "the name of one module, written there",
    "pycaffe/io.py": "names of libraries, written there",
    "pycaffe/proto/__init__.py": "the name of one module, written there",
    "pycaffe/scripts/detect.py": "names of two libraries, written there",
    "pycaffe/running/installing.py": "names of the package's own modules",
    "pycaffe/running/moved_names.py": "modules of Python and numpy that stand in its own table",
    "run.py": "the script that the user asks to run",
    "registry.py": "names of the package's own modules",
}
# Only in the first may a graph be built whose text torch.fx runs; tests/hostile/test_names.py tests
# it. The second reads graphs that torch.export has made. The others change graphs of the first:
# they add nodes whose targets are functions and modules under keys that the first has chosen.
MAY_USE_FX = {
    "net/fx_program.py",
    "export/torch_import/traced_program.py",
    "net/execution/gpu/fusing.py",
    *(
        f"inference/torch_graph/{name}.py"
        for name in ("folding", "fusing", "graph", "half", "merging", "packing", "removal")
    ),
}


# What a module has somewhere if it calls one of them, or what is looked at below.
WORDS = re.compile(rf"\b({'|'.join({name.split('.')[-1] for name in RUNS_CODE})}|load|shell)\b")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.expr) -> str:
    """The text of a name such as ``os.system``; "" for what is no name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def keyword(call: ast.Call, name: str) -> object:
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


@on_every_module
def test_no_module_runs_text(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    text = path.read_text()
    # Python reads full-width letters as plain ones.
    words = not text.isascii() or WORDS.search(text) is not None
    uses_fx = "fx" in text and place not in MAY_USE_FX
    if not words and not uses_fx:
        return
    tree = ast.parse(text)
    for name, call in calls(tree) if words else ():
        assert name not in RUNS_CODE or place in ALLOWED, f"{place}:{call.lineno}: {name}"
        assert keyword(call, "shell") is not True, f"{place}:{call.lineno}: shell=True"
        if name == "torch.load":
            assert keyword(call, "weights_only") is True, f"{place}:{call.lineno}"
        if name == "np.load":
            assert keyword(call, "allow_pickle") is False, f"{place}:{call.lineno}"
    if uses_fx:
        assert not any("fx" in name.split(".") for name in imported(tree)), place


def test_every_allowed_place_still_needs_it() -> None:
    for place in ALLOWED:
        tree = ast.parse((PACKAGE / place).read_text())
        assert any(name in RUNS_CODE for name, _ in calls(tree)), place
