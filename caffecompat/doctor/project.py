"""The files of a project that matter, by kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caffecompat.errors import CaffeError, FileProblem
from caffecompat.input_files import open_input, read_input
from caffecompat.proto.wrong_files import prototxt_kind

NET, SOLVER, WEIGHTS, SCRIPT, NOTEBOOK, SHELL = (
    *("net", "solver", "weights", "script", "notebook", "shell script"),
)
_PROTOTXT = (".prototxt", ".prototxt.txt", ".pt", ".pbtxt")
_WEIGHTS = (".caffemodel", ".caffemodel.h5", ".solverstate", ".solverstate.h5", ".binaryproto")
_SKIPPED_FOLDERS = {".git", ".svn", ".hg", "__pycache__", "node_modules", ".venv"}
# The largest text that is examined, and how much of it is read to tell its kind.
MAX_TEXT_BYTES = 64 << 20
_HEAD_BYTES = 1 << 16

_IMPORTS_CAFFE = re.compile(
    rb"(?m)^[ \t]*(>>>\s*)?(import|from)\s+caffe\b|^[ \t]*import\s.*\bcaffe\b"
)
# Of scripts that give Caffe models to other programs: OpenCV, TensorRT, coremltools.
_GIVES_MODELS = re.compile(
    rb"\breadNetFromCaffe\b|\bCaffeParser\b|converters\.caffe\b|\.caffemodel\b"
)
_IMPORTS = re.compile(rb"(?m)^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w., \t]+))")
_RUNS_CAFFE = re.compile(rb"\bcaffe(\.bin|\.exe)?\s+(train|test|time|device_query)\b")


@dataclass(frozen=True)
class ProjectFile:
    """One file.

    Attributes:
        path: from the current folder.
        shown: from the folder that the user named, as reports show it.
        kind: one of the constants of this module.
    """

    path: Path
    shown: str
    kind: str


def project_files(root: Path, max_bytes: int | None = None) -> list[ProjectFile]:
    """The files at or below ``root`` that an examination looks at, in order of name.

    A file that the user names counts as what its content is, whatever its name.

    Args:
        max_bytes: the largest script to read; None for 64 MiB.

    Raises:
        FileProblem: there is no such file or folder.
    """
    if not root.exists():
        raise FileProblem(f"{root}: there is no such file or folder")
    if not root.is_dir():
        kind = _kind_of(root, True, max_bytes)
        if kind is None:
            raise FileProblem(
                f"{root}: this is no net, solver, weight file or script that uses caffe"
            )
        return [ProjectFile(root, str(root), kind)]
    kinds = {}
    for path in _walk(root):
        kind = _kind_of(path, False, max_bytes)
        if kind is not None:
            kinds[path] = kind
    scripts = [path for path, kind in kinds.items() if kind == SCRIPT]
    kinds |= dict.fromkeys(_imported(scripts, root, max_bytes), SCRIPT)
    return [
        ProjectFile(path, str(path.relative_to(root)), kinds[path])
        for path in _walk(root)
        if path in kinds
    ]


def _imported(scripts: list[Path], root: Path, max_bytes: int | None) -> set[Path]:
    """The project's files that scripts import, and those that these import.

    A module is looked for in the script's folder and in those above it, up to ``root``.
    """
    found: set[Path] = set()
    waiting = list(scripts)
    while waiting:
        script = waiting.pop()
        folders = [script.parent]
        while folders[-1] != root:
            folders.append(folders[-1].parent)
        for name in _modules_of(script, max_bytes):
            parts = name.split(".")
            candidates = (folder.joinpath(*parts).with_suffix(".py") for folder in folders)
            path = next((one for one in candidates if one.is_file()), None)
            if path is not None and path not in found:
                found.add(path)
                waiting.append(path)
    return found


def _modules_of(script: Path, max_bytes: int | None) -> Iterator[str]:
    """The names of the modules that a script imports, as far as its lines show them."""
    try:
        text = read_input(script, max_bytes or MAX_TEXT_BYTES)
    except CaffeError:
        return
    for source, names in _IMPORTS.findall(text):
        for name in [source] if source else names.split(b","):
            words = name.decode().split()
            if words and words[0].strip("."):
                yield words[0].strip(".")


def python_modules(root: Path) -> dict[str, Path]:
    """The Python files of a project by each ending of the dotted name: "layers.focal", "focal"."""
    found: dict[str, Path] = {}
    for path in _walk(root if root.is_dir() else root.parent):
        if path.suffix != ".py":
            continue
        parts = path.with_suffix("").parts
        for start in range(len(parts)):
            found.setdefault(".".join(parts[start:]), path)
    return found


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(names):
            yield Path(folder) / name


def _kind_of(path: Path, named: bool, max_bytes: int | None) -> str | None:
    """The kind of a file; None for one that does not matter, or cannot be read."""
    name, limit = path.name.lower(), max_bytes or MAX_TEXT_BYTES
    try:
        if name.endswith(_WEIGHTS):
            return WEIGHTS
        if name.endswith(".py"):
            return SCRIPT if named or _uses_caffe(read_input(path, limit)) else None
        if name.endswith(".ipynb"):
            return NOTEBOOK if b"caffe" in read_input(path, limit) else None
        if name.endswith((".sh", ".bat", ".bash")):
            return SHELL if _RUNS_CAFFE.search(read_input(path, limit)) else None
        if named or name.endswith(_PROTOTXT):
            return _kind_of_text(_head(path))
    except CaffeError:
        return None
    return None


def _uses_caffe(script: bytes) -> bool:
    return bool(_IMPORTS_CAFFE.search(script) or _GIVES_MODELS.search(script))


def _head(path: Path) -> bytes:
    with open_input(path) as file:
        return file.read(_HEAD_BYTES)


def _kind_of_text(head: bytes) -> str | None:
    if b"\0" in head:
        return None
    kinds = {"SolverParameter": SOLVER, "NetParameter": NET, None: None}
    return kinds[prototxt_kind(head.decode("utf-8", "replace"))]
