"""Names of pycaffe that a script uses, compared with those that exist here."""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from google.protobuf.message import Message

from caffecompat import pycaffe

_CAFFE = "caffe"
# Functions that return a solver.
_SOLVERS = ("get_solver",)


@dataclass(frozen=True)
class _Known:
    """What a name of the script stands for: an object of pycaffe, or an instance of a class."""

    found: Any
    instance: bool = False


def missing_names(tree: ast.Module) -> list[tuple[int, str]]:
    """Names of pycaffe that a script uses and that do not exist here, with their lines."""
    names: dict[str, _Known] = {}
    missing: dict[tuple[int, str], None] = {}
    for line, name, bound in _imports(tree):
        found = _find(name)
        if found is None:
            missing[line, name] = None
        else:
            names[bound] = _Known(found)
    names |= _instances(tree, names)
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    # As py-faster-rcnn does with net.name.
    given = {ast.unparse(node) for node in attributes if isinstance(node.ctx, ast.Store)}
    for node in attributes:
        if ast.unparse(node) not in given:
            lost = _lost_attribute(node, names)
            if lost is not None:
                missing[node.lineno, lost] = None
    return sorted(missing)


def _instances(tree: ast.Module, names: dict[str, _Known]) -> dict[str, _Known]:
    """The names that stand for instances of one class wherever the script binds them."""
    made: dict[str, list[type]] = {}
    bindings: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bindings[node.id] += 1
        elif isinstance(node, ast.arg):
            bindings[node.arg] += 1
        elif isinstance(node, ast.Assign):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            kind = _made_by(node.value, names) if isinstance(node.value, ast.Call) else None
            for name in targets:
                if kind is not None:
                    made.setdefault(name, []).append(kind)
                elif isinstance(node.value, ast.Constant) and node.value.value is None:
                    bindings[name] -= 1
    return {
        name: _Known(kinds[0], instance=True)
        for name, kinds in made.items()
        if len(set(kinds)) == 1 and len(kinds) == bindings[name]
    }


def _imports(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, dotted name from caffe on, and the name that it is bound to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == _CAFFE and alias.asname:
                    yield node.lineno, alias.name, alias.asname
                elif parts[0] == _CAFFE:
                    yield node.lineno, _CAFFE, _CAFFE
        elif isinstance(node, ast.ImportFrom) and _is_of_caffe(node):
            for alias in node.names:
                if alias.name != "*":
                    name = f"{node.module}.{alias.name}"
                    yield node.lineno, name, alias.asname or alias.name


def _is_of_caffe(node: ast.ImportFrom) -> bool:
    return not node.level and (node.module or "").split(".")[0] == _CAFFE


def _find(name: str) -> Any:
    """The object of pycaffe with a dotted name that begins with caffe; None if there is none."""
    found: Any = pycaffe
    for part in name.split(".")[1:]:
        found = _attribute(found, part)
        if found is None:
            return None
    return found


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        return None
    except ImportError:
        # It exists, but needs a library that is not installed.
        return ModuleType(name)


def _made_by(call: ast.Call, names: dict[str, _Known]) -> type | None:
    """The class of what a call returns, where that is a class of pycaffe's or a solver."""
    found = _resolve(call.func, names)
    if found is None or found.instance:
        return None
    if isinstance(found.found, type) and found.found.__module__.startswith(pycaffe.__name__):
        return found.found
    if getattr(found.found, "__name__", "") in _SOLVERS:
        return pycaffe.SGDSolver
    return None


def _resolve(node: ast.expr, names: dict[str, _Known]) -> _Known | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, names)
        # Attributes of instances have values that only a run tells.
        if owner is None or owner.instance:
            return None
        found = _attribute(owner.found, node.attr)
        return None if found is None else _Known(found)
    return None


def _lost_attribute(node: ast.Attribute, names: dict[str, _Known]) -> str | None:
    """The name of an attribute that its owner does not have."""
    owner = _resolve(node.value, names)
    if owner is None or not _is_checked(owner.found):
        return None
    if owner.instance and isinstance(node.ctx, ast.Store):
        return None
    if _attribute(owner.found, node.attr) is not None:
        return None
    # None is a value too.
    if node.attr in dir(owner.found):
        return None
    if owner.instance and _instances_have(owner.found, node.attr):
        return None
    return ast.unparse(node)


def _instances_have(kind: type, name: str) -> bool:
    """Whether instances of a class of pycaffe have an attribute that the class has not."""
    if "__setattr__" in vars(kind):
        return True  # of a NetSpec those that the script sets
    if issubclass(kind, Message):
        return name in kind.DESCRIPTOR.fields_by_name
    return any(name in inspect.get_annotations(one) for one in kind.__mro__)


def _is_checked(found: Any) -> bool:
    """Whether all attributes of an object are known without a run."""
    if found is pycaffe.NetSpec:  # its attributes are the tops that the script names
        return False
    module = found.__name__ if isinstance(found, ModuleType) else getattr(found, "__module__", "")
    return isinstance(found, (ModuleType, type)) and str(module).startswith(pycaffe.__name__)
