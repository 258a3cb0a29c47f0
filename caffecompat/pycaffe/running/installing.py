"""``import caffe`` gives the pycaffe interface of this package."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from caffecompat.errors import CaffeError

NAME = "caffe"
_PACKAGE = "caffecompat.pycaffe"


class CaffeInstalled(CaffeError, ImportError):
    """Another caffe is installed, which would be hidden."""


class _Finder(MetaPathFinder):
    """Finds ``caffe`` and its modules in :mod:`caffecompat.pycaffe`.

    A module that is not there, like ``caffe.model_libs`` of SSD's fork, is taken from a folder
    ``caffe`` on the import path.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name, _, rest = fullname.partition(".")
        if name != NAME:
            return None
        ours = f"{_PACKAGE}.{rest}" if rest else _PACKAGE
        first = rest.partition(".")[0]
        if importlib.util.find_spec(f"{_PACKAGE}.{first}" if first else _PACKAGE):
            return ModuleSpec(fullname, _Loader(ours)) if importlib.util.find_spec(ours) else None
        # Modules within a package of the fork are found by their package's path.
        folders = [os.path.join(entry, NAME) for entry in sys.path]
        return PathFinder.find_spec(fullname, folders) if first == rest else None


class _Loader(Loader):
    """Gives a module of :mod:`caffecompat.pycaffe` a second name."""

    def __init__(self, ours: str) -> None:
        self._ours = ours

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._ours)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has set the spec of the second name.
        module.__spec__ = self._spec


def install_as_caffe(force: bool = False) -> None:
    """Makes ``import caffe``, and imports of its modules, give :mod:`caffecompat.pycaffe`.

    It holds for this process. A second call changes nothing.

    Args:
        force: hide another caffe that is installed.

    Raises:
        CaffeInstalled: another caffe is installed or imported, and ``force`` is false.
    """
    ours = importlib.import_module(_PACKAGE)
    if sys.modules.get(NAME) is ours:
        return
    other = _other_caffe()
    if other is not None and not force:
        raise CaffeInstalled(
            f"a caffe is installed at {other}; to hide it in this process, call "
            "install_as_caffe(force=True), or add --force to 'python -m caffecompat.run'"
        )
    for name in [name for name in sys.modules if name == NAME or name.startswith(f"{NAME}.")]:
        del sys.modules[name]
    _provide(ours)


@contextmanager
def provided() -> Iterator[None]:
    """Makes ``import caffe`` give :mod:`caffecompat.pycaffe` meanwhile, if there is no other."""
    if _other_caffe() is not None:
        yield
        return
    finder = _provide(importlib.import_module(_PACKAGE))
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        # Modules within it stay: a fork's caffe.config must not run twice.
        sys.modules.pop(NAME, None)


def _provide(ours: ModuleType) -> _Finder:
    """Gives the name ``caffe`` to ``ours``; returns what finds its modules from now on."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    sys.modules[NAME] = ours
    return finder


def _other_caffe() -> str | None:
    """Where another caffe is; a folder of that name that is no package does not count."""
    loaded = sys.modules.get(NAME)
    if loaded is not None:
        return str(getattr(loaded, "__file__", None) or "an unknown place")
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.origin is None or _is_source_tree(Path(spec.origin).parent):
        return None
    return spec.origin


def _is_source_tree(folder: Path) -> bool:
    """Whether a folder is ``python/caffe`` of Caffe's sources that are not built: no use to anyone.

    Scripts in the tree of a Caffe find it beside them.
    """
    compiled = [path for path in folder.glob("_caffe*") if path.suffix in (".so", ".pyd", ".dylib")]
    return (folder / "pycaffe.py").exists() and not compiled
